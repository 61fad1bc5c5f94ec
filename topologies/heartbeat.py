"""What moves with time and not with records (4, 6): watermarks, ticks, bad items, stale feeds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from streams.loop_watch import Progress
from streams.metrics import Metrics
from streams.shard import Shard
from streams.transport import ShardTable
from topologies.catalogue import Catalogue
from topologies.clock import StreamClock
from topologies.item_shard import ItemShard
from topologies.row_counts import count_items, count_users
from topologies.settlement import SettleRequest
from topologies.ticks import NEVER
from topologies.user_shard import UserShard

BEAT_S = 0.1
CAUGHT_UP_RECORDS = 1_000
"""A shard with less lag than this counts as caught up: under steady traffic it never is to the record."""
COUNT_ROWS_MS = 1_000
TICK_PARTS_MAX = 4
"""More of one tick in a beat; the others' beats come first then."""


def caught_up(shards: ShardTable[UserShard]) -> bool:
    """Whether this worker has shards and every one is at the end of its partition, or nearly."""
    return bool(shards.shards) and all(s.lag <= CAUGHT_UP_RECORDS for s in shards.shards.values())


def _nobody_reads_again(shard: Shard[ItemShard], partition: int, stop: int) -> None:
    raise AssertionError(
        f"bad items of partition {partition} before {stop} were not kept, and nobody reads them again"
    )


def now_ms() -> int:
    """The clock of the beats: it never goes back."""
    return time.monotonic_ns() // 1_000_000


@dataclass(slots=True)
class Heartbeat:
    """Beats ten times a second. `request`: what `feedrank settle` asked for last, as of `asked_ms` (of the
    clock of the beats): until that is known, no tick closes by grace. `read_again` (shard, partition of
    items, offset): begin to set aside bad items up to there, which memory did not keep (harmless while it is
    being done)."""

    users: ShardTable[UserShard]
    items: ShardTable[ItemShard]
    catalogue: Catalogue
    clock: StreamClock
    metrics: Metrics
    progress: Progress
    request: SettleRequest | None = None
    asked_ms: int = NEVER
    read_again: Callable[[Shard[ItemShard], int, int], None] = _nobody_reads_again
    _stood: dict[tuple[str, int], int] = field(default_factory=dict)
    _counted_ms: int = -COUNT_ROWS_MS

    async def run(self) -> None:
        """Beat, for ever."""
        while True:
            for _ in self._parts(now_ms):
                await asyncio.sleep(0)
            await asyncio.sleep(BEAT_S)

    def asked(self, request: SettleRequest | None, now_ms: int) -> None:
        """What is asked for at `now_ms`."""
        self.request, self.asked_ms = request, now_ms

    def beat(self, now_ms: int) -> None:
        """One beat at `now_ms`: grace and pace of ticks depend on it."""
        for _ in self._parts(lambda: now_ms):
            pass

    def _parts(self, clock_ms: Callable[[], int]) -> Iterator[None]:
        """The beat, in parts of what a part of one shard's tick takes."""
        self.metrics.tick.set(self.catalogue.tick)
        for shard in self.users.shards.values():
            self._watermark(shard)
        for items in [*self.items.shards.values()]:
            yield
            if not items.closed:
                self._tick(items, clock_ms())
            for _ in range(TICK_PARTS_MAX):
                if not items.state.goes_on:
                    break
                yield
                if not items.closed:
                    self._close(items, clock_ms())
        if clock_ms() - self._counted_ms >= COUNT_ROWS_MS:
            self._counted_ms = clock_ms()
            yield from self._count_rows()

    def _count_rows(self) -> Iterator[None]:
        for users in [*self.users.shards.values()]:
            yield
            if not users.closed:
                count_users(self.metrics, users)
        for items in [*self.items.shards.values()]:
            yield
            if not items.closed:
                count_items(self.metrics, items)

    def _watermark(self, shard: Shard[UserShard]) -> None:
        state = shard.state
        at_ms = self.clock.watermark_ms(state.stream_ms, shard.lag == 0)
        request = self.request
        if request is not None and state.position >= request.ends.get(shard.partition, 0):
            at_ms = max(at_ms, request.as_of_ms)
        state.watermark_ms = max(state.watermark_ms, at_ms)
        self._standing(shard)
        self.metrics.set(self.metrics.stream_time, state.stream_ms / 1_000, shard.topic, shard.partition)

    def _tick(self, shard: Shard[ItemShard], now_ms: int) -> None:
        state, catalogue = shard.state, self.catalogue
        state.gate.strict = self.request.tick if self.request is not None else None
        state.gate.strict_ends = self.request.ends if self.request is not None else {}
        state.gate.asked_ms = self.asked_ms
        for partition, next_offset in catalogue.items_next.items():
            if partition % catalogue.partitions == shard.partition:
                self._bad_items(shard, partition, next_offset)
        self._close(shard, now_ms)
        self._standing(shard)

    @staticmethod
    def _close(shard: Shard[ItemShard], now_ms: int) -> None:
        shard.state.close_tick(now_ms)
        if shard.state.publishes:
            shard.checkpoints.cut_soon()

    def _bad_items(self, shard: Shard[ItemShard], partition: int, next_offset: int) -> None:
        state, bad = shard.state, self.catalogue.bad_items
        if state.items_next.get(partition, 0) < bad.complete_from[partition]:
            self.read_again(shard, partition, bad.complete_from[partition])
        else:
            self.metrics.set_aside(state.set_aside(partition, bad.letters[partition], next_offset))

    def _standing(self, shard: Shard[Any]) -> None:
        """Lag and position, for monitors and for the watchdog."""
        topic, partition, metrics = shard.topic, shard.partition, self.metrics
        moved = shard.next_offset - self._stood.get((topic, partition), shard.next_offset)
        self._stood[topic, partition] = shard.next_offset
        self.progress.moved(topic, partition, max(moved, 0), "applying")
        self.progress.lag(topic, partition, shard.lag)
        metrics.set(metrics.lag, shard.lag, topic, partition)
        metrics.set(metrics.position, shard.next_offset, topic, partition)
