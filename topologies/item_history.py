"""Item statistics of the past (4): rows of one partition of item deltas, as its owner had them at a tick."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from models.arena import Arena
from models.item_deltas import Deltas
from models.item_index import ItemIndex
from models.items import ITEM_ROW, apply_deltas, derive, next_change_ms
from topologies.item_keys import fps_of, keys_of, numbered
from topologies.item_marks import ItemMarks


class ItemHistory:
    """Rows of at most `rows_max` items, moved forward delta by delta."""

    def __init__(self, rows_max: int) -> None:
        self._items = Arena(ITEM_ROW, b"i", rows_max)
        self._marks = ItemMarks(rows_max)
        self._waiting: deque[Deltas] = deque()

    def came(self, deltas: Deltas) -> None:
        """What activities before `deltas.position` of their partition did; each partition's in order."""
        self._waiting.append(deltas)

    def add_before(self, positions: Sequence[int]) -> None:
        """Add what came of activities before these offsets, by partition of activities."""
        left: deque[Deltas] = deque()
        for deltas in self._waiting:
            if deltas.position <= positions[deltas.sender]:
                self.add(deltas)
            else:
                left.append(deltas)
        self._waiting = left

    def add(self, deltas: Deltas) -> None:
        """Add this now."""
        fps, [(cells, engagers)] = numbered([deltas])
        self._items.insert(keys_of(fps))
        places = self._items.lookup(keys_of(fps))[0]
        self._marks.touch(apply_deltas(self._items.rows, places[cells], places[engagers], deltas))

    def close(self, tick: int, as_of_ms: int, index: ItemIndex) -> None:
        """Publish what changed since the last tick."""
        self._marks.begin(self._items.top, as_of_ms)
        slots = self._marks.take(self._items.top)
        if slots.size:
            rows = self._items.rows[slots]
            index.apply_derived(fps_of(self._items.ids.keys_at(slots)), derive(rows, tick, as_of_ms))
            self._marks.expire(slots, next_change_ms(rows, as_of_ms))
