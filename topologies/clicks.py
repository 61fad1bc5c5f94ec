"""Each source's share of clicks (11 to 2): acts on shown items count under the source that they came by.

A join of the served with the clicked, in memory of a fixed size: of what was shown so long ago that others
took its place, and of what another worker showed, the source is not known. Figures for monitors, no state.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from models.candidates import SOURCE_NAMES
from models.columns import ActivityColumns
from models.users import Applied
from models.verbs import Role

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

PLACES_BITS = 20
"""5 bytes each; a feed takes 25 to 100 of them."""
NOT_KNOWN = "not_known"
LABELS = (NOT_KNOWN, *SOURCE_NAMES)

_MIX = np.uint64(0x9E3779B97F4A7C15)
_TAG = np.uint64(0xFFFFFFFF)


class ShownSources:
    """By (user, item) the source of what was shown last; what needs a taken place, takes it.

    >>> shown = ShownSources()
    >>> shown.put(7, np.array([1, 2], np.uint64), np.array([0, 3]))
    >>> shown.get(np.array([7, 7, 8], np.uint64), np.array([2, 5, 2], np.uint64)).tolist()
    [3, -1, -1]
    """

    def __init__(self, places_bits: int = PLACES_BITS) -> None:
        self._shift = np.uint64(64 - places_bits)
        self._tags = np.zeros(1 << places_bits, np.uint32)
        self._source = np.full(1 << places_bits, -1, np.int8)

    def put(self, user_fp: int | U64, item_fp: U64, source: I64) -> None:
        """`source` int[k] of k items that were shown to a user, or to the k users `user_fp`."""
        places, tags = self._places(np.asarray(user_fp, np.uint64), item_fp)
        self._tags[places], self._source[places] = tags, source

    def get(self, user_fp: U64, item_fp: U64) -> I64:
        """int64[k]: the source of k pairs, -1 where it is not known."""
        places, tags = self._places(user_fp, item_fp)
        return np.where(self._tags[places] == tags, self._source[places], -1).astype(np.int64)

    def _places(self, user_fp: U64, item_fp: U64) -> tuple[I64, NDArray[np.uint32]]:
        mixed = (item_fp * _MIX) ^ user_fp
        mixed = (mixed ^ (mixed >> np.uint64(31))) * _MIX
        return (mixed >> self._shift).astype(np.int64), (mixed & _TAG).astype(np.uint32)

    def clicked(self, columns: ActivityColumns, applied: Applied, user_fp: U64) -> Counter[str]:
        """Weak and strong acts that name a slate, by source. `user_fp` uint64[slots]."""
        order, effects = applied.groups.order, applied.effects
        role = effects.role[order]
        acted = ((role == Role.WEAK) | (role == Role.STRONG)) & (columns.slate_fp[order] != 0)
        at = np.flatnonzero(acted & ~effects.undo[order])
        if not at.size:
            return Counter()
        source = self.get(user_fp[applied.groups.slot[at]], columns.object_fp[order[at]])
        counts = np.bincount(source + 1, minlength=len(LABELS)).tolist()
        return Counter({label: count for label, count in zip(LABELS, counts, strict=True) if count})
