"""Words of titles (5, 10): by fingerprint, for keywords that people mute."""

from __future__ import annotations

import re
from functools import lru_cache

from models.fingerprint import FP48, fp64

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
