"""Authors and topics (5): interned ids, their newest live items, and the sums of their counts."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
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
        self._moved: dict[int, int] = {}  # group -> the newest place where an item came or went, until shown
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

    def intern(self, identifiers: Sequence[str], fps: U64) -> I32:
        """int32[k]: the groups of k ids, made where there are none: then an item must join them at once."""
        groups = self.get(fps)
        for place in np.flatnonzero(groups < 0).tolist():
            groups[place] = self._intern(identifiers[place], fps.item(place))
        return groups

    def _intern(self, identifier: str, fp: int) -> int:
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

    def add(self, groups: I32, items: I32, created_ms: I64, fps: U64) -> None:
        """k live items of these recencies join k groups; call `show` before anything is asked."""
        joined: dict[int, int] = {}
        before = self.items[groups].tolist()
        columns = (groups.tolist(), items.tolist(), created_ms.tolist(), fps.tolist(), before)
        for group, item, ms, fp, live in zip(*columns, strict=True):
            more = joined[group] = joined.get(group, -1) + 1
            window = self._windows[group]
            assert window is not None
            held, at = len(window.items), self._position(window, ms, fp)
            if at == 0 and held != live + more:
                continue  # older than all that the window holds
            window.items.insert(at, item)
            window.created_ms.insert(at, ms)
            if held == 2 * self._keep:
                del window.items[0], window.created_ms[0]
            self._came_or_went(group, held + 1 - at)
        np.add.at(self.items, groups, 1)

    def show(self) -> None:
        """Let readers see what was added and removed."""
        if not self._moved:
            return
        self.changes[np.fromiter(self._moved, np.int64, len(self._moved))] += 1
        rows = [group for group, place in self._moved.items() if place <= self._rows]
        self._moved.clear()
        if self._rows and rows:
            self._write_newest(rows)

    def _write_newest(self, groups: list[int]) -> None:
        items, created_ms, counts = array("i"), array("q"), []
        for group in groups:
            window = self._windows[group]
            assert window is not None
            items += window.items[-self._rows :]
            created_ms += window.created_ms[-self._rows :]
            counts.append(min(len(window.items), self._rows))
        ends = np.repeat(np.cumsum(counts), counts)
        row, place = np.repeat(groups, counts), ends - 1 - np.arange(len(items))
        self.newest[groups], self.newest_ms[groups] = -1, NONE_MS
        self.newest[row, place] = np.frombuffer(items, np.int32)
        self.newest_ms[row, place] = np.frombuffer(created_ms, np.int64)

    def remove(self, group: int, item: int) -> None:
        """An item leaves its group; its recency must still be the one that it was added with. Call `show`
        after the last of some."""
        window = self._windows[group]
        assert window is not None
        self.items[group] -= 1
        if not self.items[group]:
            self._forget(group)
            return
        at = self._position(window, *self._recency(item))
        if at < len(window.items) and window.items[at] == item:
            del window.items[at], window.created_ms[at]
            if len(window.items) < self._keep and len(window.items) < self.items[group]:
                self._thin.add(group)
            self._came_or_went(group, len(window.items) - at)

    def refill(self, newest: Callable[[int, int], I32]) -> None:
        """Complete windows that removals made too short; `newest(group, count)` gives that many of its live
        items, oldest first."""
        for group in self._thin:
            items = array("i", newest(group, 2 * self._keep).tolist())
            self._windows[group] = _Window(items, array("q", [self._recency(i)[0] for i in items]))
            self._came_or_went(group, 0)
        self._thin.clear()
        self.show()

    def window(self, group: int, count: int) -> I32:
        """int32[<= count]: the newest items of a group, newest first; `count` <= keep."""
        window = self._windows[group] if 0 <= group < len(self._windows) else None
        return np.array(window.items[: -count - 1 : -1] if window else [], np.int32)

    def _position(self, window: _Window, created_ms: int, fp: int) -> int:
        """Where an item of this recency stands, or would stand, in the window."""
        at = bisect_left(window.created_ms, created_ms)
        if at == len(window.created_ms) or window.created_ms[at] != created_ms:
            return at
        high = bisect_right(window.created_ms, created_ms, at)
        return bisect_left(window.items, fp, at, high, key=self._fp_of)

    def _fp_of(self, item: int) -> int:
        return self._recency(item)[1]

    def _came_or_went(self, group: int, place: int) -> None:
        """The item at `place` from the newest."""
        self._moved[group] = min(self._moved.get(group, place), place)

    def _forget(self, group: int) -> None:
        self._index.delete(self.fp[group : group + 1] & self._key)
        self._unlike(group)
        self._windows[group] = None
        self._thin.discard(group)
        self._moved.pop(group, None)
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
