"""Features of items alone, kept by slot (8): worked out when a slice first asks for an item, and again once
its record, its author's or topics' sums, or the hour have changed.

By the same functions as ever: a memo changes how often they are called, never what they return.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.definition import Of
from models.features.items import Items, hour_of
from models.features.registry import FEATURES, ROWS, Weights
from models.item_index import ItemIndex

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MEMO_ITEMS_MAX = 8_192
"""Items worked out at a time: arrays of more leave the processor's cache."""


class ItemMemo:
    """Values and weighted sums of the index's items. A slot costs 76 bytes and 24 more for three sums, from
    the first use on. `made`: how many items were worked out so far.

    Values are below 2^21 in size, so float32 holds them exactly.
    """

    def __init__(self, index: ItemIndex) -> None:
        self._index = index
        self._of_row = {row: place for place, row in enumerate(ROWS[Of.ITEM].tolist())}
        self._of_name = {FEATURES[row].name: place for row, place in self._of_row.items()}
        self._sums: dict[Weights, F64] = {}
        self._seal, self._current = (-1, -1), 0
        self.made = 0
        self._reserve()
        index.watch(self)

    def changed(self, slots: I64) -> None:
        """The index says that these items are not what they were."""
        self._seals[slots[slots < len(self._seals)]] = 0

    def prepare(self, at: I64, as_of_ms: int) -> None:
        """Bring the items at slots `at` (any shape) up to date, for `plane` and `sums`."""
        if len(self._seals) < len(self._index.fp):
            self._reserve()
        seal = (self._index.statistics.changes, hour_of(as_of_ms))
        if seal != self._seal:
            self._seal = seal
            self._current += 1
        stale = self._seals.take(at) != self._current
        if stale.any():
            slots = np.unique(at[stale])
            for start in range(0, len(slots), MEMO_ITEMS_MAX):
                self._make(slots[start : start + MEMO_ITEMS_MAX])

    def plane(self, name: str, at: I64) -> F64:
        """float64 in the shape of `at`: one feature of prepared items."""
        width = self._values.shape[1]
        values: NDArray[np.float32] = self._values.reshape(-1)
        return values.take(at * width + self._of_name[name]).astype(np.float64)

    def rows(self, rows: I64, at: I64) -> NDArray[np.float32]:
        """float32[R, n]: the features FEATURES[rows] of n prepared items."""
        of_items: NDArray[np.float32] = self._values.take(at, axis=0)
        return of_items[:, [self._of_row[row] for row in rows.tolist()]].T

    def sums(self, weights: Weights) -> F64:
        """float64[H, slots]: weighted sums of prepared items; a new model's are made for all of them."""
        found = self._sums.get(weights)
        if found is None:
            found = self._sums[weights] = np.zeros((len(weights), len(self._seals)))
            slots = np.flatnonzero(self._seals == self._current)
            self._sum(weights, slots, self._values.take(slots, axis=0).T.astype(np.float64))
        return found

    def _make(self, slots: I64) -> None:
        items = Items(self._index, slots, self._seal[1])
        values = np.empty((len(self._of_row), len(slots)))
        for row, out in zip(self._of_row, values, strict=True):
            FEATURES[row].compute(items, out)
        self._values[slots] = values.T
        for weights in self._sums:
            self._sum(weights, slots, values)
        self._seals[slots] = self._current
        self.made += len(slots)

    def _sum(self, weights: Weights, slots: I64, values: F64) -> None:
        rows, matrix = weights.used(Of.ITEM)
        places = [self._of_row[row] for row in rows.tolist()]
        for kept, made in zip(self._sums[weights], matrix @ values[places], strict=True):
            kept[slots] = made

    def _reserve(self) -> None:
        """Room for all slots of the index; pages cost nothing until they are used."""
        slots = len(self._index.fp)
        self._values = np.zeros((slots, len(self._of_row)), np.float32)
        self._seals = np.zeros(slots, np.int32)
        self._sums = {weights: np.zeros((len(weights), slots)) for weights in self._sums}
