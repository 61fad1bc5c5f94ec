"""State of one partition of activities (2, 3): user, seen and graph rows, and what the next checkpoint takes.

The step is pure: rows and a batch in, rows and effects out; the live worker and a replay share every line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import orjson
from numpy.typing import NDArray

from models.columns import ActivityColumns
from models.item_deltas import ItemDeltas
from models.merge import ItemLookup
from models.users import Applied, Plan, apply, needs_items, plan
from models.verbs import VerbTable
from streams.dead_letters import DeadLetter
from streams.durable import POSITION_KEY, Cut, Later, Message, Row
from topologies.row_format import USER_ROWS, check_row_format
from topologies.user_rows import UserRows
from wire.names import Namespace

I64 = NDArray[np.int64]
ROW_FORMAT = USER_ROWS


@dataclass(slots=True)
class Ledger:
    """What became of the records of this partition since its namespace began; sums to `position` - start."""

    applied: int = 0
    duplicates: int = 0
    withdrawn: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Signals:
    """Users of a slice who may want a new feed: m of them, unique.

    `slots` int64[m]; `role` int8[m]: the strongest role that made them due (models.verbs.Role); `record_ms`
    int64[m]: Kafka's time of their newest such record; `graph`: slots whose follows, mutes or blocks changed.
    """

    slots: I64
    role: NDArray[np.int8]
    record_ms: I64
    graph: list[int]


@dataclass(slots=True)
class UserShard:
    """One shard: `partition` of `partitions`. `stream_ms` is the running maximum of event time,
    `watermark_ms` what the next checkpoint tells the item shards."""

    names: Namespace
    partition: int
    partitions: int
    verbs: VerbTable
    items: ItemLookup
    tick_ms: int
    rows: UserRows
    deltas: ItemDeltas = field(default_factory=ItemDeltas)
    ledger: Ledger = field(default_factory=Ledger)
    position: int = 0
    stream_ms: int = 0
    watermark_ms: int = 0
    number: int = 0
    _sent_watermark_ms: int = -1
    _committed_position: int = -1
    _letters: list[Message] = field(default_factory=list)

    # -- the step ------------------------------------------------------------------------------------

    def plan(self, part: ActivityColumns, slots: I64 | None = None) -> Plan:
        """What a slice will do; every key must be resident. `slots`: of its keys, where they are known."""
        if slots is None:
            slots, missing = self.rows.arena.lookup(part.keys)
            assert not missing.size, "make_resident comes before plan"
        return plan(self.rows.arena.rows, slots, part, self.verbs)

    def needs_items(self, planned: Plan) -> bool:
        """True when the slice merges an item that the index does not know: let it catch up first."""
        return needs_items(self.rows.arena.rows, planned, self.items)

    def apply(
        self, part: ActivityColumns, planned: Plan, dead: Sequence[DeadLetter], next_offset: int
    ) -> tuple[Applied, Signals]:
        """Apply one slice, set its bad records aside, and move the position to `next_offset`."""
        self.rows.arena.save(planned.all.users)
        applied = apply(self.rows.arena.rows, planned, self.items)
        self.rows.arena.touch(applied.users)
        self.rows.show(applied, part)
        changed = self.rows.connect(applied, part, self.verbs)
        actors = np.empty(len(part), np.uint64)
        actors[planned.all.order] = self.rows.arena.fp[planned.all.slot]
        self.deltas.add(part, applied.effects, applied.duplicate, actors)
        self.stream_ms = max(self.stream_ms, int(part.event_ms.max()))
        self._count(applied, len(part))
        self.pass_over(dead, next_offset)
        return applied, self._signals(applied, part, changed)

    def pass_over(self, dead: Sequence[DeadLetter], next_offset: int) -> None:
        """Bad records become dead letters with the next checkpoint; the position moves past them."""
        self._letters += [letter.to_message(self.names.group) for letter in dead]
        self.ledger.dead += len(dead)
        self.position = next_offset

    def _count(self, applied: Applied, records: int) -> None:
        duplicates = int(applied.duplicate.sum())
        self.ledger.duplicates += duplicates
        self.ledger.withdrawn += applied.undone
        self.ledger.applied += records - duplicates - applied.undone

    def _signals(self, applied: Applied, part: ActivityColumns, graph: list[int]) -> Signals:
        groups = applied.groups
        verb = part.verb[groups.order]
        due = np.flatnonzero(self.verbs.makes_due[verb])
        slots = groups.slot[due]
        if not slots.size:
            none = np.empty(0, np.int64)
            return Signals(none, none.astype(np.int8), none, graph)
        starts = np.flatnonzero(np.diff(slots, prepend=-1))
        role = applied.effects.role[groups.order[due]].astype(np.int8)
        record_ms = part.record_ms[groups.order[due]]
        return Signals(
            slots[starts], np.maximum.reduceat(role, starts), np.maximum.reduceat(record_ms, starts), graph
        )

    # -- the checkpoint (streams.durable.ShardState) -------------------------------------------------

    def cut(self, epoch: int) -> Cut:
        """What changed since the last cut, as it is now."""
        letters, self._letters = self._letters, []
        self.number += 1
        changed, rows = self.rows.cut(self.number)
        ticked = self.watermark_ms // self.tick_ms > self._sent_watermark_ms // self.tick_ms
        if not changed and not letters and not ticked and self.position == self._committed_position:
            return Cut(self.number, self.position, ())
        last = (POSITION_KEY, self._position_record(epoch))
        made = self.rows.back.through(self.number, rows, last)
        self._sent_watermark_ms, self._committed_position = self.watermark_ms, self.position
        deltas = self._delta_messages(self.deltas.take(), self.watermark_ms, self.position)
        messages = Later(self.partitions + len(letters), chain(deltas, [letters]))
        return Cut(self.number, self.position, Later(changed + 1, made), messages)

    def _position_record(self, epoch: int) -> bytes:
        ledger = self.ledger
        return orjson.dumps(
            {
                "position": self.position,
                "epoch": epoch,
                "watermark_ms": self.watermark_ms,
                "stream_ms": self.stream_ms,
                "row_format": ROW_FORMAT,
                "applied": ledger.applied,
                "duplicates": ledger.duplicates,
                "withdrawn": ledger.withdrawn,
                "dead": ledger.dead,
            }
        )

    def _delta_messages(self, taken: ItemDeltas, watermark_ms: int, position: int) -> Iterator[list[Message]]:
        drained = taken.drain(self.partitions, self.partition, watermark_ms, position)
        yield [Message(self.names.item_deltas, p, None, value) for p, value in drained.items()]

    def committed(self, cut: Cut) -> None:
        cut.make_all()
        self.rows.back.committed(cut.number)

    def flush_slice(self, rows_max: int) -> list[Row]:
        return self.rows.back.flush_slice(rows_max)

    def flushed(self, rows: list[Row]) -> None:
        self.rows.flushed(rows)

    def skip_to(self, offset: int) -> None:
        """Nothing was ever applied: start at the beginning of the log as it is now."""
        self.position = offset

    def restore(self, rows: list[Row]) -> None:
        """Rows of the changelog: they stay with the write-back until RocksDB has them, and come into memory
        when their user does something or is ranked."""
        self.rows.resident = False
        self.rows.back.restored(rows)
        for key, value in rows:
            if key == POSITION_KEY and value is not None:
                self.restore_position(value)

    def restore_position(self, value: bytes) -> None:
        """Take over the position record. Raises ValueError for rows of another format."""
        record = orjson.loads(value)
        check_row_format(f"{self.names.name} partition {self.partition}", record["row_format"], ROW_FORMAT)
        self.position, self._committed_position = record["position"], record["position"]
        self.stream_ms, self.watermark_ms = record["stream_ms"], record["watermark_ms"]
        self.ledger = Ledger(*(record[k] for k in ("applied", "duplicates", "withdrawn", "dead")))
