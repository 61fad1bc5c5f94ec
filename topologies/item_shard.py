"""State of one partition of item deltas (4): item rows, the senders' watermarks, and what a tick publishes.

Published records travel in the checkpoint's transaction, a tick's marker last, so that whoever has read the
markers of all partitions has the statistics of that tick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from models.arena import Arena, ArenaFull
from models.item_deltas import Deltas, decode
from models.items import DERIVED, ITEM_ROW, apply_deltas, derive, next_change_ms
from models.writeback import WriteBack
from streams.dead_letters import DeadLetter
from streams.durable import POSITION_KEY, Cut, Later, Message, Row
from streams.errors import ExitCode, OperatorError
from topologies.item_keys import fps_of, keys_of, numbered, spoken_of
from topologies.item_marks import ItemMarks
from topologies.row_format import ITEM_ROWS, ITEM_ROWS_READ, check_row_format, item_rows_of_today
from topologies.ticks import TickGate, tick_marker
from wire.names import Namespace

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

MARKER_KEY = b"!tick"
PUBLISH_RECORDS_MAX = 20_000  # of one checkpoint: a tick with more is spread over several
PUBLISH_ROWS_AT_ONCE = 300  # of these, in one hold of the loop: 1 ms, 5 on slow cores
EVICT_SHARE = 8
ASLEEP_MS = 8 * 86_400_000  # rows without a count for so long change no more by themselves


@dataclass(slots=True)
class ItemShard:
    """One shard of item statistics. `gate` decides when ticks close; time is passed in."""

    names: Namespace
    partition: int
    gate: TickGate
    rows_max: int
    arena: Arena = field(init=False)
    back: WriteBack = field(default_factory=WriteBack)
    position: int = 0
    number: int = 0
    resident: bool = False
    items_next: dict[int, int] = field(default_factory=dict)
    """By partition of `items` that this shard answers for: up to where bad items are dead letters."""
    live: Callable[[U64], NDArray[np.bool_]] = lambda fps: np.zeros(fps.size, np.bool_)
    """bool[k]: which items readers can see."""
    _marks: ItemMarks = field(init=False)
    _closing: int | None = None
    _contained: list[int] = field(default_factory=list)
    _ticked: bool = False
    _part_ends: bool = False
    _unpublished: list[Message] = field(default_factory=list)
    _letters: list[Message] = field(default_factory=list)
    _committed_position: int = -1

    def __post_init__(self) -> None:
        self.arena = Arena(ITEM_ROW, b"i", self.rows_max)
        self._marks = ItemMarks(self.rows_max)

    # -- deltas in -------------------------------------------------------------------------------------

    def decode(self, values: Sequence[bytes | None]) -> list[Deltas]:
        """Messages of one fetch. Raises OperatorError for one that no worker of this namespace wrote."""
        try:
            found = [decode(value) for value in values if value is not None]
        except ValueError as error:
            raise self._foreign(str(error)) from error
        for one in found:
            if one.sender >= self.gate.senders:
                raise self._foreign(f"activities have {self.gate.senders} partitions, not {one.sender + 1}")
        return found

    def _foreign(self, what: str) -> OperatorError:
        return OperatorError(
            f"{self.names.item_deltas} partition {self.partition}, from offset {self.position}: {what}. Stop "
            "whatever else writes there, then rebuild into a new namespace (docs/operations.md)",
            ExitCode.TOPICS_WRONG,
        )

    def absent(self, deltas: Iterable[Deltas], dead_leave: bool = False) -> list[bytes]:
        """Make rows for new items, and name the keys (tagged) to read from RocksDB first.

        Raises ArenaFull before any is made. `dead_leave`: rows of items that are not live may leave memory
        before their windows expire; the item index must hold all that the items topic does.
        """
        keys = keys_of(spoken_of(deltas))
        slots, missing = self.arena.lookup(keys)
        wanted = [keys[i] for i in missing.tolist()]
        self._make_room(len(wanted), slots[slots >= 0], dead_leave)
        self.arena.insert(wanted)
        if self.resident:
            return []
        held = {key: value for key in wanted if (value := self.back.find(b"i" + key)) is not None}
        self.load({b"i" + key: value for key, value in held.items()})
        return [b"i" + key for key in wanted if key not in held]

    def load(self, found: Mapping[bytes, bytes]) -> None:
        """Rows that RocksDB had (tagged key -> bytes). All are published at the next tick, changed or not."""
        if found:
            rows = {key[1:]: value for key, value in item_rows_of_today(found).items()}
            self._marks.touch(self.arena.restore(rows))

    def wake(self, rows: Sequence[Row]) -> None:
        """Rows (tagged) that this owner finds at its start: those that change with time, or may have changed
        since the last tick, come into memory and are published at the next one.

        Raises OperatorError when they do not fit.
        """
        stored = [(key, value) for key, value in rows if value is not None]
        newest_ms = [int.from_bytes(value[:8], "little") for _, value in stored]  # a row's first field
        floor_ms = self._asleep_before_ms()
        try:
            self.load(dict(row for row, ms in zip(stored, newest_ms, strict=True) if ms >= floor_ms))
        except ArenaFull as full:
            raise OperatorError(
                f"{self.names.item_deltas} partition {self.partition}: {full}. So many items had activities "
                "in the last 8 days; raise ITEMS_LIVE_MAX",
                ExitCode.USAGE,
            ) from full

    def _asleep_before_ms(self) -> int:
        return self.gate.closed * self.gate.tick_ms - ASLEEP_MS

    def _make_room(self, wanted: int, keep: I64, dead_leave: bool) -> None:
        over = len(self.arena) + wanted - self.rows_max
        if over <= 0:
            return
        waiting = np.flatnonzero(self._marks.waiting(self.arena.top))
        if dead_leave:
            waiting = waiting[self.live(fps_of(self.arena.ids.keys_at(waiting)))]
        gone = self.arena.evict(max(over, self.rows_max // EVICT_SHARE), np.union1d(keep, waiting))
        if gone.size:
            self.resident = False
            self._marks.forget(gone)

    def apply(self, deltas: Sequence[Deltas], next_offset: int) -> int:
        """Apply messages (their rows must be here); returns how many rows changed."""
        changed, (fps, numbers) = 0, numbered(deltas)
        places = self.arena.lookup(keys_of(fps))[0]
        self.arena.save(places)
        self._publish_before(places)
        for one, (cells, engagers) in zip(deltas, numbers, strict=True):
            slots = apply_deltas(self.arena.rows, places[cells], places[engagers], one)
            self.arena.touch(slots)
            self._marks.touch(slots)
            self.gate.heard(one.sender, one.watermark_ms, one.position)
            changed += slots.size
        self.position = next_offset
        return changed

    # -- ticks out -------------------------------------------------------------------------------------

    @property
    def publishes(self) -> bool:
        """Whether a marker, or as many records as fit, wait for a checkpoint."""
        return self._part_ends

    @property
    def goes_on(self) -> bool:
        """Whether a tick is closed in part, and more may be queued now."""
        return self._closing is not None and not self._part_ends

    def close_tick(self, now_ms: int) -> int | None:
        """Close the newest tick that may close, or go on: queue some changes. Returns it with the last."""
        if self._part_ends:
            return None
        if self._closing is None:
            self._closing = self.gate.closable(now_ms)
            if self._closing is None:
                return None
            self._contained = [*self.gate.positions]
            self._marks.begin(self.arena.top, self._closing * self.gate.tick_ms)
        tick, as_of_ms = self._closing, self._closing * self.gate.tick_ms
        room = PUBLISH_RECORDS_MAX - len(self._unpublished)
        slots = self._marks.take(max(min(PUBLISH_ROWS_AT_ONCE, room), 0))
        self._marks.expire(slots, self._publish(slots, tick, as_of_ms))
        if self._marks.closing:
            self._part_ends = len(self._unpublished) >= PUBLISH_RECORDS_MAX
            return None
        self._part_ends = True
        marker = tick_marker(tick, as_of_ms, self._contained, self.partition)
        for topic in (self.names.item_features, self.names.served):  # compacted there, kept here
            self._unpublished.append(Message(topic, self.partition, MARKER_KEY, marker))
        self.gate.close(tick, now_ms)
        self._closing, self._ticked = None, True
        return tick

    def _publish_before(self, slots: I64) -> None:
        """What of these a tick closed in part has still to publish: it contains what its marker says."""
        if self._closing is not None:
            due, as_of_ms = self._marks.claim(slots), self._closing * self.gate.tick_ms
            self._marks.expire(due, self._publish(due, self._closing, as_of_ms))

    def _publish(self, slots: I64, tick: int, as_of_ms: int) -> I64:
        """Queue the records of these rows; returns when each changes next by itself (int64[k])."""
        rows, topic, partition = self.arena.rows[slots], self.names.item_features, self.partition
        block, size = derive(rows, tick, as_of_ms).tobytes(), DERIVED.itemsize
        self._unpublished += [
            Message(topic, partition, key, block[i * size : (i + 1) * size])
            for i, key in enumerate(self.arena.ids.keys_at(slots))
        ]
        return next_change_ms(rows, as_of_ms)

    def _publish_asleep(self, cut: I64) -> None:
        """Rows that a restart would not wake are published with the checkpoint that commits their change
        (after a tick: with the next one), so that none is forgotten between a change and its tick."""
        if self.gate.closed < 0:
            return
        slots = self._marks.touched(self.arena.top) if self._ticked else cut
        asleep = slots[self.arena.rows["newest_ms"][slots] < self._asleep_before_ms()]
        self._ticked = False
        if asleep.size:
            self._publish(asleep, self.gate.closed, self.gate.closed * self.gate.tick_ms)

    def set_aside(self, partition: int, bad: Iterable[DeadLetter], next_offset: int) -> list[DeadLetter]:
        """Bad items, all read up to `next_offset`: each goes out once, whoever reads it. Returns those."""
        done = self.items_next.get(partition, 0)
        fresh = [letter for letter in bad if done <= letter.offset < next_offset]
        self._letters += [letter.to_message(self.names.group) for letter in fresh]
        if next_offset > done:
            self.items_next[partition] = next_offset
        return fresh

    # -- the checkpoint (streams.durable.ShardState) -----------------------------------------------------

    def cut(self, epoch: int) -> Cut:
        """What changed since the last cut as it is now, and what a tick published."""
        self.number += 1
        slots = self.arena.cut_slots(self.number)
        self._publish_asleep(slots)
        messages = self._unpublished + self._letters
        self._unpublished, self._letters, self._part_ends = [], [], False
        if not slots.size and not messages and self.position == self._committed_position:
            return Cut(self.number, self.position, ())
        last = (POSITION_KEY, self._position_record(epoch))
        rows = self.back.through(self.number, self.arena.copies(), last)
        self._committed_position = self.position
        return Cut(self.number, self.position, Later(slots.size + 1, rows), messages)

    def _position_record(self, epoch: int) -> bytes:
        return orjson.dumps(
            {
                "position": self.position,
                "epoch": epoch,
                "row_format": ITEM_ROWS,
                "tick_ms": self.gate.tick_ms,
                "watermarks_ms": self.gate.watermarks,
                "positions": self.gate.positions,
                "closed_tick": self.gate.closed,
                "items_next": {str(p): offset for p, offset in self.items_next.items()},
            }
        )

    def committed(self, cut: Cut) -> None:
        cut.make_all()
        self.back.committed(cut.number)

    def flush_slice(self, rows_max: int) -> list[Row]:
        return self.back.flush_slice(rows_max)

    def flushed(self, rows: list[Row]) -> None:
        self.back.flushed(rows)
        self.arena.flushed_through = self.back.flushed_through

    def skip_to(self, offset: int) -> None:
        """Nothing was ever applied: start at the beginning of the log as it is now."""
        self.position = offset

    def restore(self, rows: list[Row]) -> None:
        """Rows of the changelog: kept until RocksDB has them, in memory when a delta or a tick needs them."""
        self.resident = False
        self.back.restored(rows)
        for key, value in rows:
            if key == POSITION_KEY and value is not None:
                self.restore_position(value)

    def restore_position(self, value: bytes) -> None:
        """Take over the position record. Raises ValueError for state of another version or other settings."""
        record, gate, where = orjson.loads(value), self.gate, f"{self.names.name} item shard {self.partition}"
        check_row_format(where, record["row_format"], ITEM_ROWS, ITEM_ROWS_READ)
        if record["tick_ms"] != gate.tick_ms:
            raise ValueError(
                f"item statistics of {self.names.name} have ticks of {record['tick_ms'] // 1_000} s; set "
                "TICK_S back, or replay into a new namespace"
            )
        self.position = self._committed_position = record["position"]
        self.items_next = {int(p): offset for p, offset in record["items_next"].items()}
        known = (record["closed_tick"], record["watermarks_ms"], record.get("positions", []))
        self.gate = TickGate(gate.senders, gate.tick_ms, gate.grace_ms, *known, pace_ms=gate.pace_ms)
