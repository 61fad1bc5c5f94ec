"""Words of titles (5, 10): by fingerprint, for keywords that people mute."""

from __future__ import annotations

import re
from functools import lru_cache

from models.fingerprint import FP48, fp64

WORDS_CACHED_MAX = 1 << 14
TITLES_CACHED_MAX = 1 << 12
"""Only titles that may have a word which somebody mutes are asked for again; one takes 0.9 KB here."""
BITS = 64

_WORD = re.compile(r"\w+")


@lru_cache(TITLES_CACHED_MAX)
def title_words(title: str) -> frozenset[int]:
    """Fingerprints (48 bits) of the lower-case words of a title; a keyword is sent in lower case.

    >>> len(title_words("Cats, cats and DOGS"))
    3
    """
    return frozenset(fp64(word.encode()) & int(FP48) for word in _WORD.findall(title.lower()))


def word_bits(words: frozenset[int]) -> int:
    """One of 64 bits per word: titles without a keyword's bit need no closer look.

    >>> word_bits(frozenset({3, 67}))
    8
    """
    bits = 0
    for word in words:
        bits |= 1 << word % BITS
    return bits


def title_bits(title: str) -> int:
    """`word_bits` of a title's words, which for titles of items that come is not worth keeping.

    >>> title_bits("Cats and dogs") == word_bits(title_words("Cats and dogs"))
    True
    """
    bits = 0
    for word in _WORD.findall(title.lower()):
        bits |= _bit(word)
    return bits


@lru_cache(WORDS_CACHED_MAX)
def _bit(word: str) -> int:
    return 1 << fp64(word.encode()) % BITS
