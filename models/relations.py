"""What rules ask of graphs, rings and titles (10): own, blocked, muted, hidden items."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.features.interests import TOPIC_ROWS
from models.features.pairs import Pairs
from models.features.scene import Scene
from models.fingerprint import FP32, FP48
from models.graph import KIND_AUTHOR, KIND_KEYWORD, GraphRow
from models.verbs import Role
from models.words import title_words, word_bits

Bools = NDArray[np.bool_]
U64 = NDArray[np.uint64]
Relation = Literal["mutes", "blocks"]

_TOPIC_ROW = {"mutes": "muted", "blocks": "blocked"}


def actor_is_author(scene: Scene) -> Bools:
    """bool[U, C]: by the 48 bits that edges hold too."""
    own: Bools = (scene.author_pair & FP48) == (scene.users.fp & FP48)[:, None]
    return own


def relation_hits(scene: Scene, relation: Relation) -> Bools:
    """bool[U, C]: the author, or one of the topics, is muted (blocked)."""
    hits = np.zeros(scene.shape, np.bool_)
    authors = Pairs.of([_edges(row, relation, KIND_AUTHOR) for row in scene.users.graph])
    if len(authors):
        hits.reshape(-1)[authors.find(scene.author_pair)[0]] = True
    table, cell = scene.interests.topics
    row = table[TOPIC_ROWS.index(_TOPIC_ROW[relation])]
    if row.any():
        hits |= row.take(cell).any(axis=0)
    return hits


def keyword_hits(scene: Scene, alive: Bools) -> Bools:
    """bool[U, C]: the title has a word that the user muted or blocked. Others cost nothing."""
    hits = np.zeros(scene.shape, np.bool_)
    for user, row in enumerate(scene.users.graph):
        words = {*_edges(row, "mutes", KIND_KEYWORD).tolist(), *_edges(row, "blocks", KIND_KEYWORD).tolist()}
        if not words:
            continue
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
    hits.reshape(-1)[Pairs(user, fp & FP32).find(scene.item_pair)[0]] = True
    return hits


def _edges(row: GraphRow, relation: Relation, kind: int) -> U64:
    """uint64[k]: fp48 of what the user muted (blocked)."""
    edges, kinds = (row.mutes, row.mute_kinds) if relation == "mutes" else (row.blocks, row.block_kinds)
    if not len(edges):
        return edges
    chosen: U64 = edges[kinds == kind] >> np.uint64(16)
    return chosen
