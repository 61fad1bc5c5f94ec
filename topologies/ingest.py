"""Ingest (1 to 4): a slice of one partition decoded, its rows brought into memory, the step applied.

These are the only lines between Kafka's bytes and the pure steps of the shards. Whatever a record holds, it
ends as applied or as a dead letter; what is not the record's fault waits and says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.arena import ArenaFull
from models.columns import ActivityColumns
from models.item_deltas import Deltas
from models.users import Plan
from streams.batch import RecordBatch
from streams.codec import Decoder, SchemaPending
from streams.dead_letters import DeadLetter
from streams.errors import ExitCode, OperatorError
from streams.health import Health
from streams.log import logger
from streams.metrics import Metrics
from streams.registry import Registry
from streams.shard import Shard
from streams.turns import Turns
from topologies.clicks import ShownSources
from topologies.clock import StreamClock
from topologies.item_shard import ItemShard
from topologies.slice_size import SliceSize
from topologies.user_shard import Signals, UserShard

ITEMS_WAIT_S = 10.0
CHECKPOINT_ROWS_MAX = 40_000
"""A shard with more dirty user rows waits for a checkpoint: no transaction grows past its time-out."""
BAD_RECORDS_MAX = 125
"""Decoded in one hold of the loop after a part of which one in FULL_OF_BAD was bad."""
FULL_OF_BAD = 8
TOGETHER_RECORDS_MAX = 250
"""Decoded and applied in one hold of the loop; of more, each step has a turn of its own."""
RECORDS_BESIDE_FEEDS = 1_000
RECORDS_MAX, RECORDS_MIN, HOLD_MS_MAX = 5_000, 600, 10
"""Slices do not shrink below RECORDS_MIN: with slices of 250, an activity cost the worker twice as much."""
GOOD_GROWTH = 4
"""After a part without any, the next may have so many times as many: most batches hold none."""

T = TypeVar("T")

log = logger(__name__)


class ItemsReader(Protocol):
    """The reader behind the item index."""

    async def caught_up(self, timeout_s: float | None = None) -> None: ...


@dataclass(slots=True)
class UserIngest:
    """Applies activities to user shards; `registry` is None where the schemas are bundled. `size`: of the
    slices, learns from how long they hold the loop."""

    decoder: Decoder
    registry: Registry | None
    items: ItemsReader
    signalled: Callable[[Shard[UserShard], Signals], None]
    clock: StreamClock
    metrics: Metrics
    health: Health
    shown: ShownSources = field(default_factory=ShownSources)
    turns: Turns = field(default_factory=Turns)
    size: SliceSize = field(default_factory=lambda: SliceSize(RECORDS_MAX, RECORDS_MIN, HOLD_MS_MAX))
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _known_to: dict[int, int] = field(default_factory=dict)
    """By partition: the items of all activities before this offset are in the index, if there are any."""

    async def apply(self, shard: Shard[UserShard], batch: RecordBatch) -> None:
        """Apply one slice to its shard.

        Shards follow each other, a slice each; fetches, checkpoints and ranking have their turns in between.
        One that waits for a schema holds up no other.
        """
        if shard.state.rows.arena.dirty_rows() >= CHECKPOINT_ROWS_MAX:
            await shard.cut_now()
        self.metrics.batch.observe(len(batch))
        while True:
            try:
                async with self._one:
                    await self.turns.take("ingest")
                    return await self._apply(shard, batch)
            except SchemaPending as pending:  # of decoding: nothing is applied yet
                assert self.registry is not None
                await self.registry.fetch(pending.schema_ids)

    def records_now(self, feeds_wait: bool) -> int:
        """Large slices cost less each, small ones let those who wait for a feed have it."""
        return min(self.size.now, RECORDS_BESIDE_FEEDS) if feeds_wait else self.size.now

    async def _apply(self, shard: Shard[UserShard], batch: RecordBatch) -> None:
        """Raises SchemaPending before anything is changed."""
        held_from_s = time.thread_time()
        columns, dead = await self._decoded(batch)
        state = shard.state
        self.metrics.set_aside(dead)
        self.metrics.add(self.metrics.activities, len(dead), "dead")
        for letter in dead:
            log.debug("dead letter", partition=letter.partition, offset=letter.offset, why=letter.message)
        if not len(columns):
            state.pass_over(dead, batch.next_offset)
            return
        if len(columns) > TOGETHER_RECORDS_MAX:
            await self.turns.take("ingest")
            held_from_s = time.thread_time()
        planned = await self._planned(shard, columns, batch.next_offset)
        started = time.perf_counter()
        applied, signals = state.apply(columns, planned, dead, batch.next_offset)
        self.metrics.spent("apply", time.perf_counter() - started)
        self.clock.advance(state.stream_ms)
        duplicates = int(applied.duplicate.sum())
        add, activities = self.metrics.add, self.metrics.activities
        add(activities, len(columns) - duplicates, "applied")
        add(activities, duplicates, "duplicate")
        add(activities, applied.undone, "undone")
        add(activities, applied.late, "late")
        self.metrics.add_each(self.metrics.clicks, self.shown.clicked(columns, applied, state.rows.arena.fp))
        self.signalled(shard, signals)
        self.size.took(len(batch), time.thread_time() - held_from_s)

    async def _decoded(self, batch: RecordBatch) -> tuple[ActivityColumns, list[DeadLetter]]:
        """Where records are bad, in parts with a round of the loop between them: each has to be looked at."""
        most = self._timed(lambda: self.decoder.records_at_once(batch))
        parts: list[ActivityColumns] = []
        dead: list[DeadLetter] = []
        first = 0
        while not parts or first < len(batch):
            part = batch if not first and most >= len(batch) else batch.cut(first, first + most)
            columns, letters = self._timed(lambda part=part: self.decoder.decode_batch(part))  # type: ignore[misc]
            parts.append(columns)
            dead += letters
            first += most
            if len(letters) * FULL_OF_BAD > most:
                most = min(most, BAD_RECORDS_MAX)
            elif not letters:
                most *= GOOD_GROWTH
            if first < len(batch):
                await asyncio.sleep(0)
        return ActivityColumns.joined(parts), dead

    def _timed(self, decode: Callable[[], T]) -> T:
        with self.metrics.stage("decode"):
            return decode()

    async def _planned(self, shard: Shard[UserShard], columns: ActivityColumns, next_offset: int) -> Plan:
        """The plan of a slice whose rows are in memory and whose items are known, as far as they exist.

        After the last await, rows are made resident once more: nothing lies between that and the apply.
        """
        state = shard.state
        while True:
            try:
                slots = self._make_resident(shard, columns.keys)
            except ArenaFull as full:
                self._demand_room(shard, columns.keys)
                log.info("checkpoint and flush: memory is full", partition=shard.partition, why=str(full))
                await shard.flush_now()
                continue
            planned = state.plan(columns, slots)
            known = next_offset <= self._known_to.get(shard.partition, 0)
            if known or not state.needs_items(planned):
                return planned
            await self._items_caught_up(shard, next_offset)

    async def _items_caught_up(self, shard: Shard[UserShard], next_offset: int) -> None:
        """Let the index reach what the items topic holds now: items come before activities on them, so
        whatever is unknown then, of all activities that are in the log by now, does not exist."""
        there = max(next_offset, shard.highwater)
        try:
            await self.items.caught_up(ITEMS_WAIT_S)
        except TimeoutError as error:
            log.warning("ingest waits for the items topic", partition=shard.partition, why=str(error))
        else:
            self._known_to[shard.partition] = there

    @staticmethod
    def _demand_room(shard: Shard[UserShard], keys: list[bytes]) -> None:
        """Raises OperatorError when one slice alone is more than memory may hold: waiting would not help."""
        users, rows_max = len(set(keys)), shard.state.rows.rows_max
        if users > rows_max:
            raise OperatorError(
                f"{shard.topic} partition {shard.partition}: a slice has {users} users, memory is for "
                f"{rows_max} rows; raise ARENA_ROWS_MAX or lower INGEST_RECORDS_MAX",
                ExitCode.USAGE,
            )

    @staticmethod
    def _make_resident(shard: Shard[UserShard], keys: list[bytes]) -> NDArray[np.int64]:
        """Slots of `keys`, whose rows are in memory until the next await."""
        read: dict[bytes, bytes | None] = {}
        slots, wanted = shard.state.rows.locate(keys)
        while wanted:
            read |= zip(wanted, shard.store.get_many(wanted), strict=True)
            slots, wanted = shard.state.rows.locate(keys, read)
        return slots


@dataclass(slots=True)
class ItemIngest:
    """Applies item deltas to item shards."""

    items: ItemsReader
    metrics: Metrics
    turns: Turns = field(default_factory=Turns)

    async def apply(self, shard: Shard[ItemShard], batch: RecordBatch) -> None:
        """Apply one slice to its shard."""
        await self.turns.take("ingest")
        state = shard.state
        deltas = state.decode(batch.values)
        if not deltas:
            state.position = batch.next_offset
            return
        wanted = await self._absent(shard, deltas)
        if wanted:
            found = zip(wanted, shard.store.get_many(wanted), strict=True)
            state.load({key: value for key, value in found if value is not None})
        with self.metrics.stage("deltas"):
            state.apply(deltas, batch.next_offset)

    async def _absent(self, shard: Shard[ItemShard], deltas: list[Deltas]) -> list[bytes]:
        try:
            return shard.state.absent(deltas)
        except ArenaFull as full:
            log.info("checkpoint and flush: memory is full", partition=shard.partition, why=str(full))
        await shard.flush_now()
        await self.items.caught_up()
        try:
            return shard.state.absent(deltas, dead_leave=True)
        except ArenaFull as full:
            raise OperatorError(
                f"{shard.topic} partition {shard.partition}: {full}. So many items had activities in the "
                "last 8 days; raise ITEMS_LIVE_MAX",
                ExitCode.USAGE,
            ) from full
