"""Embedding candidates (7): in the cells of the user's topics, the items closest to the user's interests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.candidates.query import USER_TOPICS_MAX, Query
from models.candidates.ranking import largest
from models.groups import run_sizes, run_starts
from models.order import true_places

I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
F32 = NDArray[np.float32]

_DOT_BIAS = 1 << 21  # |dot| <= 64 * 127 * 128 < 2^21
_POSITION_BITS = 12  # USER_TOPICS_MAX * CELL_ITEMS_MAX < 2^12
_POSITION = (1 << _POSITION_BITS) - 1


class Embedding:
    """By (dot product desc, place in the scan); the scan takes the newest of each topic in turn."""

    name, bit = "embedding", 1

    def propose(self, query: Query, reach: int) -> I32:
        depth, (user, place) = query.limits.cell_items, true_places(query.topics >= 0)
        cells = query.index.cells(depth)
        cell = np.array(cells.of(query.topics[user, place].tolist()), np.int64)
        by_cell = cell.argsort()  # users of one cell side by side: it is read once for all of them
        user, place, cell = user.take(by_cell), place.take(by_cell), cell.take(by_cell)
        interest = quantised(query.users.merged["embedding"]).take(user, axis=0)
        dots = np.empty((len(cell), depth), np.float32)
        # whole numbers below 2^24: the same in any order of summation
        begins = run_starts(cell)
        ends = begins + run_sizes(begins, len(cell))
        for c, begin, end in zip(cell.take(begins).tolist(), begins.tolist(), ends.tolist(), strict=True):
            np.dot(interest[begin:end], cells.embedding[c].T, out=dots[begin:end])
        items = cells.items.take(cell, axis=0)
        found = dots.astype(np.int64)
        found += _DOT_BIAS
        found <<= _POSITION_BITS
        found |= _POSITION - (np.arange(depth) * USER_TOPICS_MAX + place[:, None])
        found[items < 0] = -1
        keys = np.full((len(query), USER_TOPICS_MAX, depth), -1)
        keys[user, place] = found
        best = largest(keys.reshape(len(query), -1), reach)
        column, topic = np.divmod(_POSITION - (best & _POSITION), USER_TOPICS_MAX)
        row = np.zeros((len(query), USER_TOPICS_MAX), np.int64)
        row[user, place] = np.arange(len(cell)) * depth
        at = row.take(topic + np.arange(len(query))[:, None] * USER_TOPICS_MAX, mode="clip") + column
        return np.where(best >= 0, items.take(at, mode="clip") if len(cell) else -1, np.int32(-1))


def quantised(interest: I16) -> F32:
    """float32[U, 64] whole numbers of int16[U, 64]: sign(e) * (|e| * 127 // max |e|), zeros of zeros."""
    size = np.abs(interest.astype(np.int32))
    most = np.maximum(size.max(axis=1, keepdims=True), 1)
    whole: I32 = np.sign(interest) * (size * 127 // most)
    return whole.astype(np.float32)
