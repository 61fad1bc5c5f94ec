"""Authors and topics (5): interned ids, their newest live items, and the sums of their counts."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.fingerprint import FP32
from models.hash_index import LOAD_PERCENT_FAST, HashIndex
from models.slots import Slots, doubled

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Recency = Callable[[int], tuple[int, int]]

WINDOWS = 3
"""Derived counts: 1 h, 24 h, 7 d."""

COUNT_COLUMNS = 5
NONE_MS = -(1 << 46)
"""A time before all others; bit shifts by up to 16 keep it negative."""


class _Window(NamedTuple):
    """The newest items of a group, oldest first."""

    items: array[int]
    created_ms: array[int]


class Postings:
    """Groups of live items (all of one author, or of one topic), by dense number g.

    Two ids whose low `key_bits` agree are one group: follow edges and affinities cannot tell them apart.
    `fp` uint64[g], `ids` list[str], `items` int32[g] (live items), `sums` int64[g, 3, 5] (derived counts of
    live items), `changes` int64[g] (grows whenever the newest items change), `newest` int32[g, rows] (newest
    first, -1 = fewer), `newest_ms` int64[g, rows] (when they were created, NONE_MS = fewer). A group without
    live items is forgotten.
    """

    def __init__(self, key_bits: int, keep: int, rows: int, recency: Recency, reserve: int = 0) -> None:
        self._key = np.uint64((1 << key_bits) - 1)
        self._keep, self._rows, self._recency = keep, rows, recency
        self._windows: list[_Window | None] = []
        self._thin: set[int] = set()
        self._joined: dict[int, int] = {}  # group -> the newest place that an item took, until it is shown
        self._index = HashIndex(reserve, LOAD_PERCENT_FAST)
        self._first_alike = HashIndex(reserve, LOAD_PERCENT_FAST)
        self._next_alike: I32 = np.full(max(64, reserve), -1, np.int32)
        self._numbers: I32 = np.zeros(max(64, reserve) + 1, np.int32)
        self.slots = Slots()
        self.ids: list[str] = []
        capacity = max(64, reserve)
        self.fp: U64 = np.zeros(capacity, np.uint64)
        self.items: I32 = np.zeros(capacity, np.int32)
        self.changes: I64 = np.zeros(capacity, np.int64)
        self.newest: I32 = np.zeros((capacity, rows), np.int32)
        self.newest_ms: I64 = np.zeros((capacity, rows), np.int64)
        self.sums: I64 = np.zeros((capacity, WINDOWS, COUNT_COLUMNS), np.int64)

    def get(self, fps: U64) -> I32:
        """int32[k]: groups of k fingerprints (only their low `key_bits` count), -1 = without live items."""
        return self._index.get(fps & self._key)

    def alike(self, fp32: U64) -> tuple[I64, I32]:
        """The groups that k fingerprints of 32 bits stand for: which of these int64[h], the group int32[h].

        With keys of more bits two groups may be alike in these.
        """
        group = self._first_alike.get(fp32)
        which = np.flatnonzero(group >= 0)
        found, groups = [which], [group.take(which)]
        while len(groups[-1]):
            following = self._next_alike.take(groups[-1])
            more = np.flatnonzero(following >= 0)
            found.append(found[-1].take(more))
            groups.append(following.take(more))
        return np.concatenate(found), np.concatenate(groups)

    def numbered(self, some: NDArray[np.integer], *asked: NDArray[np.integer]) -> list[I32]:
        """Small numbers instead of groups: the k different groups among `some` get 1..k, all others, and -1,
        get 0. Returns int32 arrays in the shapes of `asked`."""
        numbers, each = self._numbers, np.arange(len(some), dtype=np.int32)
        numbers[some] = each
        last = (numbers.take(some) == each).nonzero()[0]
        numbers[some.take(last)] = np.arange(1, len(last) + 1)
        found = [numbers.take(groups) for groups in asked]
        numbers[some] = 0
        return found

    def intern(self, identifier: str, fp: int) -> int:
        """The group of an id, made when there is none: then an item must join it at once."""
        key = fp & int(self._key)
        group = self._index.get_one(key)
        if group < 0:
            group = self.slots.take()
            if group == len(self._windows):
                self._windows.append(None)
                self.ids.append("")
            if group >= len(self.fp):
                self._grow()
            self._index.insert_one(key, group)
            self._next_alike[group] = self._first_alike.get_one(key & int(FP32))
            self._first_alike.insert_one(key & int(FP32), group)
            self._windows[group] = _Window(array("i"), array("q"))
            self.ids[group] = identifier
            self.fp[group] = fp
        return group

    def add(self, group: int, item: int) -> None:
        """A live item joins its group; call `show` after the last of some, before anything is asked."""
        window = self._windows[group]
        assert window is not None
        held, live = len(window.items), self.items.item(group)
        self.items[group] = live + 1
        recency = self._recency(item)
        at = self._position(window, recency)
        if at == 0 and held != live:
            return  # older than all that the window holds
        window.items.insert(at, item)
        window.created_ms.insert(at, recency[0])
        if held == 2 * self._keep:
            del window.items[0], window.created_ms[0]
        place = len(window.items) - at
        self._joined[group] = min(self._joined.get(group, place), place)

    def show(self) -> None:
        """Let readers see what was added."""
        for group, place in self._joined.items():
            window = self._windows[group]
            assert window is not None
            self._changed(group, window, place)
        self._joined.clear()

    def remove(self, group: int, item: int) -> None:
        """An item leaves its group; its recency must still be the one that it was added with."""
        window = self._windows[group]
        assert window is not None
        self.items[group] -= 1
        if not self.items[group]:
            self._forget(group)
            return
        at = self._position(window, self._recency(item))
        if at < len(window.items) and window.items[at] == item:
            del window.items[at], window.created_ms[at]
            if len(window.items) < self._keep and len(window.items) < self.items[group]:
                self._thin.add(group)
            self._changed(group, window, len(window.items) - at)

    def refill(self, newest: Callable[[int, int], I32]) -> None:
        """Complete windows that removals made too short; `newest(group, count)` gives that many of its live
        items, oldest first."""
        for group in self._thin:
            items = array("i", newest(group, 2 * self._keep).tolist())
            window = self._windows[group] = _Window(items, array("q", [self._recency(i)[0] for i in items]))
            self._changed(group, window, 0)
        self._thin.clear()

    def window(self, group: int, count: int) -> I32:
        """int32[<= count]: the newest items of a group, newest first; `count` <= keep."""
        window = self._windows[group] if 0 <= group < len(self._windows) else None
        return np.array(window.items[: -count - 1 : -1] if window else [], np.int32)

    def _position(self, window: _Window, recency: tuple[int, int]) -> int:
        """Where an item of this (created_ms, fp) stands, or would stand, in the window."""
        created_ms, fp = recency
        low = bisect_left(window.created_ms, created_ms)
        high = bisect_right(window.created_ms, created_ms, low)
        return low if low == high else bisect_left(window.items, fp, low, high, key=self._fp_of)

    def _fp_of(self, item: int) -> int:
        return self._recency(item)[1]

    def _changed(self, group: int, window: _Window, place: int) -> None:
        """The item at `place` from the newest came or went."""
        self.changes[group] += 1
        if place <= self._rows:
            newest = window.items[: -self._rows - 1 : -1]
            count = len(newest)
            self.newest[group, :count] = newest
            self.newest_ms[group, :count] = window.created_ms[: -self._rows - 1 : -1]
            self.newest[group, count:], self.newest_ms[group, count:] = -1, NONE_MS

    def _forget(self, group: int) -> None:
        self._index.delete(self.fp[group : group + 1] & self._key)
        self._unlike(group)
        self._windows[group] = None
        self._thin.discard(group)
        self.ids[group] = ""
        self.changes[group] += 1
        self.newest[group], self.newest_ms[group] = -1, NONE_MS
        self.slots.free(group)

    def _unlike(self, group: int) -> None:
        """Take a group out of the chain of those that are alike."""
        fp32 = int(self.fp[group] & FP32)
        at, following = self._first_alike.get_one(fp32), self._next_alike.item(group)
        if at != group:
            while self._next_alike.item(at) != group:
                at = self._next_alike.item(at)
            self._next_alike[at] = following
        elif following >= 0:
            self._first_alike.insert_one(fp32, following)
        else:
            self._first_alike.delete([fp32])

    def _grow(self) -> None:
        self._next_alike = doubled(self._next_alike)
        self._numbers = np.zeros(2 * len(self.fp) + 1, np.int32)
        self.fp, self.items = doubled(self.fp), doubled(self.items)
        self.changes, self.sums = doubled(self.changes), doubled(self.sums)
        self.newest, self.newest_ms = doubled(self.newest), doubled(self.newest_ms)
