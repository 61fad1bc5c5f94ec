"""What rules ask of graphs, rings and titles (10): own, blocked, muted, hidden items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.pairs import Pairs
from models.features.scene import Scene
from models.features.ties import OWN
from models.fingerprint import FP32
from models.graph import KIND_KEYWORD
from models.verbs import Role
from models.words import title_words, word_bits

Bools = NDArray[np.bool_]


def actor_is_author(scene: Scene) -> Bools:
    """bool[U, C]: by the 48 bits that edges hold too."""
    own: Bools = (scene.author_marks & np.uint8(OWN)) != 0
    return own


def relation_hits(scene: Scene, mark: int) -> Bools:
    """bool[U, C]: the author, or one of the topics, is MUTED (BLOCKED)."""
    bit = np.uint8(mark)
    hits: Bools = (scene.author_marks & bit) != 0
    ties = scene.topic_ties
    if (ties.marks & bit).any():
        for marks in scene.topic_marks:
            hits |= (marks & bit) != 0
    return hits


def keyword_hits(scene: Scene, alive: Bools) -> Bools:
    """bool[U, C]: the title has a word that the user muted or blocked. Others cost nothing."""
    hits = np.zeros(scene.shape, np.bool_)
    muted, blocked = scene.lookups.edges("mutes", KIND_KEYWORD), scene.lookups.edges("blocks", KIND_KEYWORD)
    by_user: dict[int, set[int]] = {}
    for edges in (muted, blocked):
        for user, word in zip(edges.user.tolist(), edges.fp48.tolist(), strict=True):
            by_user.setdefault(user, set()).add(word)
    for user, words in by_user.items():
        bits = np.uint64(word_bits(frozenset(words)))
        shown = np.flatnonzero((scene.index.title_bits.take(scene.at[user]) & bits != 0) & alive[user])
        titles = scene.index.title
        slots = scene.item[user, shown].tolist()
        hits[user, shown] = [not words.isdisjoint(title_words(titles[slot] or "")) for slot in slots]
    return hits


def marked_hidden(scene: Scene) -> Bools:
    """bool[U, C]: a negative action on the item stands in the ring, and no later undo withdrew it."""
    user, fp = scene.interests.standing(Role.NEGATIVE)
    hits = np.zeros(scene.shape, np.bool_)
    hits.reshape(-1)[Pairs(scene.shape[0], user, fp & FP32).find(scene.asked)[0]] = True
    return hits
