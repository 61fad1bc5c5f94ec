"""Rows of shards from their changelogs (before 2 and 4): nothing is read before the fence, nothing hangs.

Every question to a broker has a deadline that raises, and reading that stands still for STALL_S raises too: a
worker that cannot recover ends with a message, and its supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError

from streams.concerns import KafkaSettings
from streams.connect import connect
from streams.durable import Row
from streams.errors import ExitCode, OperatorError
from streams.faust_private.raw import RawFetch, answered_at, partitions_of, position_of, take
from streams.fetch import Unpacker

ROWS_PER_SLICE = 1_000
"""Rows restored in one hold of the loop."""
FETCH_PARTITION_BYTES = 4 << 20
FETCH_BYTES_MAX = 32 << 20
POLL_S = 0.2
STALL_S = 60.0
VISIBLE_S = 2.0
EMPTY_ANSWERS_MIN = 3
"""So many empty answers at one position below the end say that compaction took what was there."""
CORRUPT_MAX = 5
PROGRESS_EVERY_S = 1.0

T = TypeVar("T")


@dataclass(slots=True)
class Replay:
    """One changelog partition to read. `restore` gets rows in log order and the offset after the last of
    them.

    `next_offset` is where the local rows end (-1: there are none) and moves on; `ahead` is called when the
    local rows know more than the changelog, before reading from the start. `rows` counts what was read.
    """

    topic: str
    partition: int
    next_offset: int
    restore: Callable[[list[Row], int], Awaitable[None]]
    ahead: Callable[[], None]
    end: int = 0
    rows: int = 0

    @property
    def tp(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


Progress = Callable[[int, int, float | None], None]
"""(rows so far, about how many are left, seconds left or None while that is not known)"""


class Arrival:
    """Tells when a consumer has read up to an end, also where compaction has taken what was there.

    A position that stays below the end while the broker answers again and again with nothing is at the end.
    Whoever reads from a position once more must say so: what was damaged is not gone.
    """

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._seen: dict[TopicPartition, tuple[int, int | None, int]] = {}

    def begin_again(self, tp: TopicPartition) -> None:
        """The position was moved back: the answers so far were not empty."""
        self._seen.pop(tp, None)

    def reached(self, tp: TopicPartition, end: int) -> bool:
        """Ask after every poll."""
        position = position_of(self._consumer, tp)
        if position >= end:
            return True
        answered = answered_at(self._consumer, tp)
        at, when, times = self._seen.get(tp, (-1, None, 0))
        if position != at:
            times = 0
        elif answered != when:
            times += 1
        self._seen[tp] = (position, answered, times)
        highwater = self._consumer.highwater(tp)
        return times >= EMPTY_ANSWERS_MIN and highwater is not None and highwater >= end


class ChangelogReader:
    """A group-less, read-committed consumer for a recovery. Use as an async context manager.

    Raises OperatorError (broker unreachable) wherever a broker does not answer in time.
    """

    def __init__(self, kafka: KafkaSettings, idle: Callable[[], None] = lambda: None) -> None:
        self._kafka, self._idle = kafka, idle
        self._deadline_s = kafka.request_timeout_ms / 1_000
        self._consumer = AIOKafkaConsumer(
            **kafka.aiokafka(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_partition_fetch_bytes=FETCH_PARTITION_BYTES,
            fetch_max_bytes=FETCH_BYTES_MAX,
            fetch_max_wait_ms=100,
            request_timeout_ms=kafka.request_timeout_ms,
        )

    async def __aenter__(self) -> ChangelogReader:
        try:
            await self._answer(connect(self._consumer), "connect")
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def partitions(self, topic: str) -> list[int]:
        """Those of a topic."""
        return await self._answer(partitions_of(self._consumer, topic), "tell of partitions")

    async def bounds(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Start of the log and end of what is committed, by partition."""
        asked = list(tps)
        starts = await self._answer(self._consumer.beginning_offsets(asked), "tell where logs begin")
        ends = await self._answer(self._consumer.end_offsets(asked), "tell where logs end")
        return {tp: (starts[tp], ends[tp]) for tp in asked}

    async def replay(self, targets: list[Replay], progress: Progress = lambda *_: None) -> None:
        """Read each target up to the end that its changelog has now. Fence first: then nobody appends."""
        if not targets:
            return
        bounds = await self._visible(targets)
        left: dict[TopicPartition, Replay] = {}
        for target in targets:
            start, target.end = bounds[target.tp]
            if target.next_offset > target.end:
                target.ahead()
                target.next_offset = -1
            target.next_offset = max(target.next_offset, start)
            if target.next_offset < target.end:
                left[target.tp] = target
        self._consumer.assign(list(left))  # no await before all are sought: the fetcher would ask for offsets
        for tp, target in left.items():
            self._consumer.seek(tp, target.next_offset)
        await self._read(left, _Pace(targets, progress))

    async def _visible(self, targets: list[Replay]) -> dict[TopicPartition, tuple[int, int]]:
        """Bounds, asked again while a committed transaction does not show yet (a few ms, sometimes)."""
        deadline_s = time.monotonic() + VISIBLE_S
        while True:
            bounds = await self.bounds([target.tp for target in targets])
            ahead = any(target.next_offset > bounds[target.tp][1] for target in targets)
            if not ahead or time.monotonic() > deadline_s:
                return bounds
            await asyncio.sleep(POLL_S)

    async def _read(self, left: dict[TopicPartition, Replay], pace: _Pace) -> None:
        moved_s, corrupt = time.monotonic(), 0
        arrival = Arrival(self._consumer)
        while left:
            fetched = await self._answer(take(self._consumer, lambda: set(left), POLL_S), "answer fetches")
            for fetch in fetched:
                try:
                    await self._restore(fetch, left[TopicPartition(fetch.topic, fetch.partition)], pace)
                    moved_s = time.monotonic()
                except CorruptRecordException as error:
                    corrupt += 1
                    self._again(fetch, left, corrupt, error)
                    arrival.begin_again(TopicPartition(fetch.topic, fetch.partition))
            self._idle()
            for tp in [tp for tp, target in left.items() if arrival.reached(tp, target.end)]:
                done = left.pop(tp)
                done.next_offset = max(done.next_offset, done.end)
                self._consumer.pause(tp)
            if left and time.monotonic() - moved_s > STALL_S:
                raise _unreachable(f"nothing came from {', '.join(map(str, left))} for {STALL_S:.0f} s")
        pace.tell()

    async def _restore(self, fetch: RawFetch, target: Replay, pace: _Pace) -> None:
        for batch in Unpacker(fetch).batches(ROWS_PER_SLICE):
            keys = (key if key is not None else b"" for key in batch.keys)
            await target.restore(list(zip(keys, batch.values, strict=True)), batch.next_offset)
            target.rows += len(batch)
            target.next_offset = batch.next_offset
            pace.moved(len(batch))
            await asyncio.sleep(0)

    def _again(
        self, fetch: RawFetch, left: dict[TopicPartition, Replay], corrupt: int, error: Exception
    ) -> None:
        if corrupt > CORRUPT_MAX:
            raise OperatorError(
                f"{fetch.topic} partition {fetch.partition} stays damaged: {error}; check the broker's disk",
                ExitCode.BROKER_UNREACHABLE,
            ) from error
        tp = TopicPartition(fetch.topic, fetch.partition)
        self._consumer.seek(tp, left[tp].next_offset)

    async def _answer(self, question: Awaitable[T], what: str) -> T:
        try:
            async with asyncio.timeout(self._deadline_s + POLL_S):
                return await question
        except (KafkaError, TimeoutError) as error:
            raise _unreachable(
                f"Kafka at {self._kafka.bootstrap_servers} did not {what} within {self._deadline_s:.0f} s "
                f"({error!r})"
            ) from error


class _Pace:
    """Tells about every second how far the recovery is."""

    def __init__(self, targets: list[Replay], progress: Progress) -> None:
        self._targets, self._progress = targets, progress
        self._rows = 0
        self._began_s = self._told_s = time.monotonic()

    def moved(self, rows: int) -> None:
        self._rows += rows
        if time.monotonic() - self._told_s >= PROGRESS_EVERY_S:
            self.tell()

    def tell(self) -> None:
        self._told_s = time.monotonic()
        left = sum(max(target.end - target.next_offset, 0) for target in self._targets)
        per_s = self._rows / max(self._told_s - self._began_s, 1e-9)
        self._progress(self._rows, left, left / per_s if self._rows else None)


def _unreachable(what: str) -> OperatorError:
    return OperatorError(
        f"recovery: {what}; check the brokers and KAFKA_BOOTSTRAP_SERVERS, then start again: nothing is lost",
        ExitCode.BROKER_UNREACHABLE,
    )
