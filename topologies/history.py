"""State as it was at any point of the log (2 to 9): for data sets, training and evaluation, without Kafka.

    history = History(policy.verbs, tick_ms=10_000)
    history.put(items); history.apply(columns); history.close_tick(tick)
    planes = history.features(history.batch(users), candidates, as_of_ms)

Rows, deltas, item rows and the index are the live job's own, so what is computed here is what was served.
Activities are applied in the order given. What they did to items shows at the tick whose marks say so, which
is what a live job did; where there are no marks, at the first tick that is not before their record's
timestamp, which is what a job would do that never lags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.candidates import Candidates
from models.columns import ActivityColumns
from models.context import UserBatch
from models.effects import Effects
from models.features import Scene, compute
from models.item_columns import ItemRecord
from models.item_deltas import ItemDeltas, decode
from models.item_index import ItemIndex
from models.users import apply, plan
from models.verbs import VerbTable
from topologies.item_history import ItemHistory
from topologies.ticks import NEVER, TickMark, tick_of
from topologies.user_rows import UserRows

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

ROWS_MAX = 2_000_000
"""Users and items each; address space, not memory, until they come."""
PART_ROWS_MIN = 1_000


@dataclass(frozen=True, slots=True)
class _Counted:
    """Applied records of a partition whose item deltas wait for a tick."""

    partition: int
    ticks: I64
    columns: ActivityColumns
    effects: Effects
    duplicate: Bools
    actors: U64


class History:
    """Rows of all users, statistics of all items and the index, moved forward record by record.

    `tick_ms`: as the namespace's TICK_S. `tick`, `as_of_ms`: of the statistics in the index.
    """

    def __init__(self, verbs: VerbTable, tick_ms: int, items_max: int = ROWS_MAX) -> None:
        if tick_ms < 1:
            raise ValueError(f"tick_ms is {tick_ms}; a tick takes at least 1 ms")
        self.verbs, self.tick_ms = verbs, tick_ms
        self.index = ItemIndex(items_max)
        self.rows = UserRows(ROWS_MAX, resident=True)
        self.tick = NEVER
        self._items_max = items_max
        self._items: list[ItemHistory] = []
        """By partition of item deltas; one for all where ticks have no marks."""
        self._waiting: list[_Counted] = []

    @property
    def as_of_ms(self) -> int:
        return max(self.tick, 0) * self.tick_ms

    # -- forward ----------------------------------------------------------------------------------------

    def put(self, records: Iterable[ItemRecord]) -> None:
        """Items come or change. Raises ValueError for one outside its limits."""
        self.index.upsert(records)

    def remove(self, fps: ArrayLike) -> None:
        """Items go."""
        self.index.remove(fps)

    def apply(self, columns: ActivityColumns, partition: int = 0) -> None:
        """Activities of a partition in offset order; items that they name were put before."""
        if not len(columns):
            return
        self.rows.make_resident(columns.keys)
        slots, _ = self.rows.arena.lookup(columns.keys)
        applied = apply(
            self.rows.arena.rows, plan(self.rows.arena.rows, slots, columns, self.verbs), self.index
        )
        self.rows.show(applied, columns)
        self.rows.connect(applied, columns, self.verbs)
        ticks = -(-columns.record_ms // self.tick_ms)
        actors = self.rows.arena.fp[slots]
        self._waiting.append(_Counted(partition, ticks, columns, applied.effects, applied.duplicate, actors))

    def close_tick(self, tick: int, refresh: bool = True) -> None:
        """Publish the statistics of all applied records of `tick` and before.

        `refresh` False leaves the lists of sources (trending, new items) as they were, which costs a scan of
        the index; features do not read them. Raises ValueError for a tick that is over.
        """
        self._check(tick)
        one, as_of_ms = self._parts(1)[0], tick * self.tick_ms
        message = self._drain([part.ticks <= tick for part in self._waiting], 1, 0, 0)
        if message:
            one.add(decode(message[0]))
        one.close(tick, as_of_ms, self.index)
        self._closed(tick, refresh)

    def close_marked(self, tick: int, marks: Sequence[TickMark]) -> None:
        """As a job whose index was refreshed at `tick`, when the newest marks of item partitions were these
        (by partition). Activities before their positions are applied.

        Raises ValueError for a tick that is over.
        """
        self._check(tick)
        parts = self._parts(len(marks))
        for partition in range(len(marks[0].positions)):
            for end in sorted({mark.positions[partition] for mark in marks}):
                before = [(w.columns.offset < end) & (w.partition == partition) for w in self._waiting]
                for number, message in self._drain(before, len(marks), partition, end).items():
                    parts[number].came(decode(message))
        for part, mark in zip(parts, marks, strict=True):
            part.add_before(mark.positions)
            part.close(mark.tick, mark.as_of_ms, self.index)
        self._closed(tick)

    def _parts(self, count: int) -> list[ItemHistory]:
        if not self._items:
            rows_max = self._items_max if count == 1 else 2 * self._items_max // count + PART_ROWS_MIN
            self._items = [ItemHistory(rows_max) for _ in range(count)]
        if len(self._items) != count:
            raise ValueError(f"{len(self._items)} partitions of item deltas became {count}")
        return self._items

    def _check(self, tick: int) -> None:
        if tick < self.tick:
            raise ValueError(f"tick {tick} comes after {self.tick}; replay from the start for an older one")

    def _closed(self, tick: int, refresh: bool = True) -> None:
        if refresh:
            self.index.refresh(tick, tick * self.tick_ms)
        self.tick = tick

    def close_ticks_at(self, as_of_ms: int, refresh: bool = True) -> None:
        """Close the tick that `feedrank settle` would rank at."""
        self.close_tick(tick_of(as_of_ms, self.tick_ms), refresh)

    def _drain(self, chosen: list[Bools], partitions: int, sender: int, end: int) -> dict[int, bytes]:
        """A message for each partition of what the chosen waiting records did; they wait no more."""
        sums, left = ItemDeltas(), list[_Counted]()
        for one, now in zip(self._waiting, chosen, strict=True):
            if not now.all():
                left.append(_part(one, ~now))
            if now.any():
                one = one if now.all() else _part(one, now)
                sums.add(one.columns, one.effects, one.duplicate, one.actors)
        self._waiting = left
        return sums.drain(partitions, sender, 0, end) if sums.records else {}

    # -- as it stands -------------------------------------------------------------------------------------

    def batch(self, users: Sequence[bytes]) -> UserBatch:
        """1 to USERS_MAX users as they are now; one who never did anything has an empty row."""
        self.rows.make_resident(users)
        slots, _ = self.rows.arena.lookup(users)
        seen = [self.rows.seen.entries(slot) for slot in slots.tolist()]
        graph = [self.rows.graphs.get(slot) for slot in slots.tolist()]
        return UserBatch.of(users, self.rows.arena.rows[slots], seen, graph, self.index, self.verbs)

    def features(self, users: UserBatch, candidates: Candidates, as_of_ms: int) -> F64:
        """float64[F, U, C], grid integers, of these candidates as of a time."""
        return compute(Scene(users, candidates, self.index, self.verbs, as_of_ms))

    def candidates(self, fps: Sequence[U64]) -> Candidates:
        """Given items (uint64[k] of each user) as candidates; one that is not live is left out, others keep
        their order."""
        found = [self.index.lookup(one) for one in fps]
        found = [one[one >= 0] for one in found]
        width = max(1, max((len(one) for one in found), default=1))
        item = np.full((len(found), width), -1, np.int32)
        for row, one in zip(item, found, strict=True):
            row[: len(one)] = one
        return Candidates(item, (item >= 0).astype(np.uint16), {})


def _part(one: _Counted, chosen: Bools) -> _Counted:
    at = np.flatnonzero(chosen)
    columns = ActivityColumns(
        [one.columns.keys[i] for i in at.tolist()],
        *(getattr(one.columns, f.name)[at] for f in fields(one.columns)[1:]),
    )
    effects = take_effects(one.effects, at)
    return _Counted(one.partition, one.ticks[at], columns, effects, one.duplicate[at], one.actors[at])


def take_effects(effects: Effects, at: I64) -> Effects:
    """The effects of some records."""
    e = effects
    columns = (e.verb[at], e.role[at], e.undo[at], e.at_ms[at], e.bucket[at], e.dwell_s[at])
    return Effects(*columns, e.any_undo, e.any_dwell)
