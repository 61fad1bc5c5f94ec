"""Rows computed again from the activities topic (1 to 4): the reconciliation of a namespace.

Decoding, plan and apply are the live job's; state begins empty at the first offset that the rows hold. What
comes out is what a shard would hold at `end` of these users.

`in_time_order` gives the rows that would have been, had every activity come at its own time and had nobody
done what was withdrawn later: sums are the same either way, ordered parts (engagements, interests, seen
entries) are not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from models.columns import ActivityColumns
from models.followers import Followers
from models.item_deltas import Deltas, decode
from models.item_index import ItemIndex
from models.user_row import INTERESTS, USER_ROW
from models.verbs import Role, VerbTable
from streams.batch import RecordBatch
from streams.codec import Decoder, SchemaPending
from streams.durable import POSITION_KEY
from streams.registry import Registry
from topologies.item_sums import add_deltas, of_items
from topologies.replay.records import RecordLog, until
from topologies.user_rows import UserRows
from topologies.user_shard import UserShard
from wire.names import Namespace

APPLY_RECORDS = 20_000
DELTA_RECORDS = 200_000
"""Of activities whose sums for items are held before they are added to rows."""
ROWS_MAX = 2_000_000
"""Users of one partition; address space, not memory, until they come."""
ORDERED = ("engaged", "merged_s", "ring_fp", "ring_s", "ring_act", "seen_count", *(INTERESTS.names or ()))
"""Fields of a user row that follow the order of records."""

Bools = NDArray[np.bool_]
U64 = NDArray[np.uint64]

UserRowsOf = dict[bytes, dict[bytes, bytes]]
"""User -> tagged key -> bytes."""


@dataclass(frozen=True, slots=True)
class Recomputing:
    """What rows of one namespace are computed with."""

    names: Namespace
    partitions: int
    verbs: VerbTable
    index: ItemIndex
    tick_ms: int
    decoder: Decoder
    registry: Registry | None
    log: RecordLog

    async def rows(
        self,
        partition: int,
        wanted: Callable[[bytes], bool],
        start: int,
        end: int,
        in_time_order: bool = False,
        told: Callable[[int, int], None] = lambda done, total: None,
    ) -> UserRowsOf:
        """Rows at offset `end` of the wanted users of a partition who did something in [start, end).

        Memory: the users' rows, and their records where they are put in order.
        """
        state = self._empty(partition)
        ordered = self._empty(partition) if in_time_order else None
        kept: list[ActivityColumns] = []
        async for batch in self.log.activities(partition, start, end):
            columns = await self._decoded(_of(until(batch, end), wanted))
            for part in columns.slices(APPLY_RECORDS) if columns is not None else ():
                duplicate = _apply(state, part)
                state.deltas.drain(1, 0, 0, 0)  # sums for items: nobody asks for them here
                if ordered is not None:
                    kept.append(_taken(part, np.flatnonzero(~duplicate)))
            told(min(batch.next_offset, end) - start, end - start)
        found = _rows(state)
        if ordered is not None and kept:
            for part in corrected(kept, self.verbs).slices(APPLY_RECORDS):
                _apply(ordered, part)
                ordered.deltas.drain(1, 0, 0, 0)
            found = _put_in_order(found, _rows(ordered))
        return found

    async def item_rows(
        self,
        starts: Mapping[int, int],
        ends: Mapping[int, int],
        wanted: Callable[[U64], Bools],
        told: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[bytes, bytes]:
        """Rows (tagged key -> bytes) of the wanted items (bool[k] of k fps) after everybody's activities, by
        partition in [start, end).

        Memory: all users of one partition, and the wanted rows.
        """
        rows: dict[bytes, bytes] = {}
        total, before = sum(end - starts.get(partition, 0) for partition, end in ends.items()), 0
        for partition, end in ends.items():
            state, start = self._empty(partition), starts.get(partition, 0)
            async for batch in self.log.activities(partition, start, end):
                columns = await self._decoded(until(batch, end))
                for part in columns.slices(APPLY_RECORDS) if columns is not None else ():
                    _apply(state, part)
                if state.deltas.records >= DELTA_RECORDS:
                    rows = add_deltas(rows, [_drained(state, wanted)])
                told(before + min(batch.next_offset, end) - start, total)
            rows = add_deltas(rows, [_drained(state, wanted)])
            before += end - start
        return rows

    def _empty(self, partition: int) -> UserShard:
        rows = UserRows(ROWS_MAX, resident=True, followers=Followers(0))
        return UserShard(self.names, partition, self.partitions, self.verbs, self.index, self.tick_ms, rows)

    async def _decoded(self, batch: RecordBatch) -> ActivityColumns | None:
        """Good records; bad ones are dead letters already."""
        while len(batch):
            try:
                return self.decoder.decode_batch(batch)[0]
            except SchemaPending as pending:
                assert self.registry is not None
                await self.registry.fetch(pending.schema_ids)
        return None


def _of(batch: RecordBatch, wanted: Callable[[bytes], bool]) -> RecordBatch:
    """The records of some users."""
    keys = list(batch.keys)
    at = [place for place, key in enumerate(keys) if key is not None and wanted(key)]
    values = list(batch.values)
    return RecordBatch(
        batch.topic,
        batch.partition,
        batch.start,
        batch.next_offset,
        np.asarray(batch.offsets, np.int64)[at],
        np.asarray(batch.timestamps_ms, np.int64)[at],
        [keys[place] for place in at],
        [values[place] for place in at],
    )


def _apply(state: UserShard, part: ActivityColumns) -> NDArray[np.bool_]:
    """bool[n]: which were duplicates."""
    state.rows.make_resident(part.keys)
    applied, _ = state.apply(part, state.plan(part), [], int(part.offset.max()) + 1)
    return applied.duplicate


def _drained(state: UserShard, wanted: Callable[[U64], Bools]) -> Deltas:
    """What the applied records did to the wanted items."""
    return of_items(decode(state.deltas.drain(1, 0, 0, 0)[0]), wanted)


def _rows(state: UserShard) -> UserRowsOf:
    found: UserRowsOf = {}
    for key, value in state.cut(0).rows:
        if key != POSITION_KEY and value is not None:
            found.setdefault(key[2:] if key[:1] == b"s" else key[1:], {})[key] = value
    return found


# -- in the order of time ----------------------------------------------------------------------------------


def corrected(parts: Sequence[ActivityColumns], verbs: VerbTable) -> ActivityColumns:
    """Records by event time (of one time, by offset), without what was withdrawn and what withdrew it.

    An undo takes away the newest activity of its actor before it that has its verb, object and time, or else
    the next one after it; one that finds none stays.
    """
    whole = ActivityColumns(
        [key for part in parts for key in part.keys],
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(ActivityColumns)[1:]),
    )
    undo = verbs.role[whole.verb] == Role.UNDO
    done: defaultdict[tuple[bytes, int, int, int], list[int]] = defaultdict(list)
    early: defaultdict[tuple[bytes, int, int, int], list[int]] = defaultdict(list)
    gone = np.zeros(len(whole), np.bool_)
    verb, ms = (
        np.where(undo, of_undo, own)
        for of_undo, own in ((whole.undone_verb, whole.verb), (whole.undone_ms, whole.event_ms))
    )
    named = zip(whole.keys, *(part.tolist() for part in (whole.object_fp, verb, ms)), strict=True)
    for at, what in enumerate(named):
        others, mine = (done[what], early[what]) if undo[at] else (early[what], done[what])
        if others:
            gone[[at, others.pop()]] = True
        else:
            mine.append(at)
    kept = np.flatnonzero(~gone)
    return _taken(whole, kept[np.lexsort((whole.offset[kept], whole.event_ms[kept]))])


def _taken(columns: ActivityColumns, at: NDArray[np.int64]) -> ActivityColumns:
    return ActivityColumns(
        [columns.keys[place] for place in at.tolist()],
        *(getattr(columns, f.name)[at] for f in fields(ActivityColumns)[1:]),
    )


def _put_in_order(found: UserRowsOf, ordered: UserRowsOf) -> UserRowsOf:
    """Ordered fields and seen pages of `ordered` in the rows of `found`; zeros for who has nothing left."""
    result: UserRowsOf = {}
    for user, rows in found.items():
        other = ordered.get(user, {})
        row = np.frombuffer(bytearray(rows[b"u" + user]), USER_ROW)
        new = np.frombuffer(other.get(b"u" + user, bytes(USER_ROW.itemsize)), USER_ROW)
        for name in ORDERED:
            row[name] = new[name]
        pages = {key: value for key, value in other.items() if key[:1] == b"s"}
        graph = {key: value for key, value in rows.items() if key[:1] == b"g"}
        result[user] = {b"u" + user: row.tobytes()} | pages | graph
    return result
