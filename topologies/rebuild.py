"""Slates computed again (7, 8): what the candidates were and which features they had, shown or not.

    for rebuilt in rebuild(past, history, policy, slates): ...

One code path with the live job: state, sources and features are its own. The marks of ticks say what the item
statistics of a live feed contained, however far its worker lagged; without them they are guessed from time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from models.candidates import Candidates, Query, gather
from models.candidates.query import USERS_MAX
from models.features import Scene, SceneFeatures
from models.policy import Policy
from models.rules import apply_rules
from models.score import RateLift
from topologies.history import History
from topologies.past import FOR_YOU, ItemChange, Past, Served, Slate
from topologies.ticks import TickMark

Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

APPLY_RECORDS = 20_000
"""Applied at once, so that a long replay shows progress and memory stays bounded."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A slate's candidates: `fps` uint64[C], `sources` uint16[C] (masks), `features` int32[F, C]; by their
    place `ids`, `authors`, first `topics` ("" = none) and `eligible`: no rule of the surface drops it (by the
    scores of the default model, where only one of two alike may stay)."""

    slate: Slate
    fps: U64
    ids: list[str]
    sources: NDArray[np.uint16]
    features: NDArray[np.int32]
    authors: list[str]
    topics: list[str]
    eligible: NDArray[np.bool_]


class _Items:
    """Items of one partition in the order in which they became known; each is taken once."""

    def __init__(self, changes: list[ItemChange]) -> None:
        self._changes = sorted(changes, key=lambda change: change.offset)
        self._known_ms = [*accumulate((change.time_ms for change in self._changes), max)]
        self._taken = 0

    def until(self, time_ms: int, offset: int | None) -> list[ItemChange]:
        """Known at a time, and before this offset."""
        end = bisect_right(self._known_ms, time_ms)
        return self._take(end if offset is None else min(end, self._place(offset)))

    def before(self, offset: int) -> list[ItemChange]:
        return self._take(self._place(offset))

    def _place(self, offset: int) -> int:
        return bisect_left(self._changes, offset, key=lambda change: change.offset)

    def _take(self, end: int) -> list[ItemChange]:
        start, self._taken = self._taken, max(self._taken, end)
        return self._changes[start : self._taken]


@dataclass(slots=True)
class _Cursor:
    """How far each partition and the items were applied."""

    past: Past
    history: History
    applied: list[int] = field(default_factory=list)
    held: Sequence[int] = ()
    """By partition of items, up to where the index held them (empty: unknown)."""
    _items: list[_Items] = field(default_factory=list)
    """By partition of items."""
    _record_ms: list[I64] = field(default_factory=list)
    _marks: list[list[TickMark]] = field(default_factory=list)
    """By partition of item deltas, by tick."""

    def __post_init__(self) -> None:
        items = defaultdict[int, list[ItemChange]](list)
        for change in self.past.items:
            items[change.partition].append(change)
        self._items = [_Items(items[partition]) for partition in range(max(items, default=-1) + 1)]
        by_partition = defaultdict[int, list[TickMark]](list)
        for mark in sorted(self.past.marks, key=lambda mark: mark.tick):
            by_partition[mark.item_partition].append(mark)
        if by_partition:
            self._marks = [by_partition[partition] for partition in range(max(by_partition) + 1)]
        self.applied = [0] * len(self.past.partitions)
        self._record_ms = [
            np.maximum.accumulate(p.record_ms) if len(p) else p.record_ms for p in self.past.partitions
        ]

    def index_of(self, partition: int, position: int) -> int:
        """How many good records of a partition lie before an offset."""
        return int(np.searchsorted(self.past.partitions[partition].offset, position, "left"))

    def put_until(self, time_ms: int) -> None:
        """Items that were known at a time, but for those that had not been read yet (`held`)."""
        ends = [*self.held, *[0] * len(self._items)] if self.held else [None] * len(self._items)
        parts = zip(self._items, ends, strict=False)
        self._put(change for part, end in parts for change in part.until(time_ms, end))

    def put_before(self, offsets: Sequence[int]) -> None:
        """Items before these places, by partition."""
        self._put(
            change for part, end in zip(self._items, offsets, strict=False) for change in part.before(end)
        )

    def _put(self, changes: Iterable[ItemChange]) -> None:
        last = {change.fp: change.record for change in changes}
        self.history.put(record for record in last.values() if record is not None)
        gone = np.array([fp for fp, record in last.items() if record is None], np.uint64)
        if gone.size:
            self.history.remove(gone)

    def apply_until(self, partition: int, end: int) -> None:
        """Records of a partition up to the end-th."""
        part = self.past.partitions[partition]
        while self.applied[partition] < end:
            stop = min(end, self.applied[partition] + APPLY_RECORDS)
            piece = part.cut(self.applied[partition], stop)
            self.put_until(int(piece.record_ms.max()))
            self.history.apply(piece, partition)
            self.applied[partition] = stop

    def tick_to(self, tick: int, before_ms: int) -> None:
        """Close a tick with what its marks say; without them, with the records of all partitions up to its
        end, and earlier than `before_ms`."""
        if tick <= self.history.tick:
            return
        if self._marks:
            self._close_marked(tick)
            return
        end_ms = min(tick * self.history.tick_ms, before_ms - 1)
        for partition, times in enumerate(self._record_ms):
            self.apply_until(partition, int(np.searchsorted(times, end_ms, "right")))
        self.history.close_tick(tick)

    def marked(self, tick: int) -> list[TickMark] | None:
        """The newest marks of all item partitions at a tick, by partition; None where one has none so old."""
        newest = [bisect_right(marks, tick, key=lambda mark: mark.tick) - 1 for marks in self._marks]
        if min(newest) < 0:
            return None
        return [marks[at] for marks, at in zip(self._marks, newest, strict=True)]

    @property
    def has_marks(self) -> bool:
        return bool(self._marks)

    def _close_marked(self, tick: int) -> None:
        marks = self.marked(tick)
        assert marks is not None, "asked before"
        for partition in range(len(self.past.partitions)):
            end = max(mark.positions[partition] for mark in marks)
            self.apply_until(partition, self.index_of(partition, end))
        self.history.close_marked(tick, marks)


def rebuild(
    past: Past, history: History, policy: Policy, slates: Iterable[Slate], counts: Counter[str]
) -> Iterator[Rebuilt]:
    """Slates in order of time; `history` must be new. Counts what could not be rebuilt, by name."""
    cursor = _Cursor(past, history)
    group: list[Slate] = []
    for slate in sorted(slates, key=lambda one: one.order):
        if group and (len(group) == USERS_MAX or not _together(group[-1], slate)):
            yield from _group(cursor, policy, group, counts)
            group = []
        group.append(slate)
    if group:
        yield from _group(cursor, policy, group, counts)


def _together(a: Slate, b: Slate) -> bool:
    same = (a.as_of_ms, a.tick, a.fps is None) == (b.as_of_ms, b.tick, b.fps is None)
    return same and (a.partition != b.partition or a.position == b.position)


def _group(cursor: _Cursor, policy: Policy, group: list[Slate], counts: Counter[str]) -> Iterator[Rebuilt]:
    history, first = cursor.history, group[0]
    if first.tick < history.tick:
        counts["slates of an older tick than one before them"] += len(group)
        return
    if cursor.has_marks and cursor.marked(first.tick) is None:
        counts["slates of a tick before the log's first"] += len(group)
        return
    cursor.held = first.listed
    if first.listed:
        cursor.put_before(first.listed)
    elif first.fps is None:
        cursor.put_until(first.as_of_ms)
    cursor.tick_to(first.tick, first.as_of_ms + (first.fps is None))
    cursor.held = first.known
    good = []
    for slate in group:
        end = cursor.index_of(slate.partition, slate.position)
        if cursor.applied[slate.partition] > end:
            counts["slates behind what their item statistics hold"] += 1
            continue
        cursor.apply_until(slate.partition, end)
        good.append(slate)
    if first.known:
        cursor.put_before(first.known)
    else:
        cursor.put_until(first.as_of_ms)
    if good:
        yield from _rebuilt(history, policy, good)


def _rebuilt(history: History, policy: Policy, slates: Sequence[Slate]) -> Iterator[Rebuilt]:
    users, as_of_ms = history.batch([slate.user for slate in slates]), slates[0].as_of_ms
    if slates[0].fps is None:
        seeds = np.array([slate.seed for slate in slates], np.uint64)
        candidates = gather(Query(users, history.index, policy.verbs, policy.candidates, as_of_ms, seeds))
    else:
        candidates = history.candidates([one.fps for one in slates if one.fps is not None])
    scene = Scene(users, candidates, history.index, policy.verbs, as_of_ms)
    features = SceneFeatures(scene)
    alive = candidates.item >= 0
    if slates[0].fps is None:
        rules = policy.surfaces[FOR_YOU].rules
        alive = apply_rules(scene, policy, rules, RateLift(policy).score(features)).alive
    planes = features.planes()
    for u, slate in enumerate(slates):
        yield _of_user(history, slate, candidates, planes[:, u], alive[u], u)


def _of_user(
    history: History,
    slate: Slate,
    candidates: Candidates,
    planes: NDArray[np.float64],
    alive: Bools,
    user: int,
) -> Rebuilt:
    item = candidates.item[user]
    count = int((item >= 0).sum())
    slots = item[:count]
    index = history.index
    ids = [index.ids[slot] for slot in slots.tolist()]
    authors = [index.author_ids[author] for author in index.author[slots].tolist()]
    topics = [index.topic_ids[topic] if topic >= 0 else "" for topic in index.topics[slots, 0].tolist()]
    sources = candidates.sources[user, :count].copy()
    features = planes[:, :count].astype(np.int32)
    return Rebuilt(slate, index.fp[slots], ids, sources, features, authors, topics, alive[:count].copy())


def compared(rebuilt: Rebuilt, served: Served, counts: Counter[str]) -> None:
    """Compare logged feature values with the rebuilt ones; counts entries and values that differ."""
    place = {fp: at for at, fp in enumerate(rebuilt.fps.tolist())}
    for column, entry in enumerate(served.featured.tolist()):
        at = place.get(int(served.fps[entry]))
        if at is None:
            counts["logged entries that were no candidates when rebuilt"] += 1
            continue
        differ = int((rebuilt.features[:, at] != served.logged[:, column]).sum())
        counts["logged entries compared"] += 1
        counts["logged entries with a value that differs"] += differ > 0
        counts["logged values that differ"] += differ
