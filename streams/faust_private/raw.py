"""Fetched bytes of a partition, taken from aiokafka before it makes an object of every record (step 1).

aiokafka's own `getmany` costs 3 us a record, most of it for a ConsumerRecord that is thrown away at once.
Taking the fetch whole also frees the partition for the next fetch while this one is still being worked on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult
from aiokafka.errors import ConsumerStoppedError
from aiokafka.record.memory_records import MemoryRecords


class Aborted(NamedTuple):
    """An aborted transaction of this fetch: the producer, and the first offset of it here."""

    producer_id: int
    first_offset: int


@dataclass(frozen=True, slots=True)
class RawFetch:
    """One answer of the broker for one partition.

    `start` is the position it was asked for, `next_offset` the one to ask for afterwards. `batches` are
    aiokafka's record batches (still compressed), in offset order. `aborted` is empty unless the consumer
    reads committed records only. `highwater` is the end of the log as the broker said with it; `generation`
    the number of seeks before it.
    """

    topic: str
    partition: int
    start: int
    next_offset: int
    batches: list[Any]
    aborted: list[Aborted]
    check_crcs: bool
    highwater: int
    generation: int = 0
    raw: Sequence[memoryview] = ()
    """The bytes of each of `batches`, header included; empty where they were not kept."""

    def goes_on(self, after: RawFetch) -> bool:
        """Whether this one was asked for where `after` ends."""
        return self.start == after.next_offset and self.generation == after.generation

    def joined(self, more: RawFetch) -> RawFetch:
        """This fetch and the one that goes on after it, as if the broker had sent both at once."""
        return replace(
            self,
            next_offset=more.next_offset,
            batches=self.batches + more.batches,
            aborted=sorted({*self.aborted, *more.aborted}, key=lambda one: one.first_offset),
            highwater=max(self.highwater, more.highwater),
            raw=[*self.raw, *more.raw] if self.raw and more.raw else (),
        )


class KeptRecords:
    """aiokafka's MemoryRecords that still knows its bytes: columns are read from them without an object per
    record."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        records = MemoryRecords(data)
        self.has_next, self.next_batch = records.has_next, records.next_batch
        self.size_in_bytes = records.size_in_bytes


aiokafka_fetcher.MemoryRecords = KeptRecords


_LENGTH_FROM = 12
"""A batch's length counts from here; its base offset and the length itself stand before."""

Want = Callable[[], Collection[tuple[str, int]] | None]
"""Which partitions to take now (None: all); asked again whenever something may have changed."""


async def take(consumer: AIOKafkaConsumer, want: Want, timeout_s: float) -> list[RawFetch]:
    """Whatever has been fetched for the wanted partitions; waits up to `timeout_s` when there is nothing.

    Raises what aiokafka's fetcher met: KafkaError, OffsetOutOfRangeError({tp: offset}).
    """
    fetcher, deadline = consumer._fetcher, time.monotonic() + timeout_s
    while True:
        if fetcher._closed:
            raise ConsumerStoppedError
        if fetcher._subscriptions.reassignment_in_progress:
            await fetcher._subscriptions.wait_for_assignment()
        taken = _take_now(fetcher, want())
        left_s = deadline - time.monotonic()
        if taken or left_s <= 0:
            return taken
        waiter = fetcher._create_fetch_waiter()
        done, _ = await asyncio.wait([waiter], timeout=left_s)
        if not done:
            waiter.cancel()
        elif not fetcher._closed:
            waiter.result()


def wake(consumer: AIOKafkaConsumer) -> None:
    """Let a waiting `take` ask again which partitions are wanted. Call on the consumer's own loop."""
    fetcher = consumer._fetcher
    for waiter in list(fetcher._fetch_waiters):
        fetcher._notify(waiter)


def _take_now(fetcher: Any, wanted: Collection[tuple[str, int]] | None) -> list[RawFetch]:
    taken: list[RawFetch] = []
    for tp in list(fetcher._records):
        if wanted is not None and tp not in wanted:
            if not fetcher._subscriptions.is_assigned(tp):
                del fetcher._records[tp]
            continue
        result = fetcher._records[tp]
        if not isinstance(result, FetchResult):
            if taken:  # deliver these first; the error is still there at the next call
                return taken
            del fetcher._records[tp]
            fetcher._notify(fetcher._wait_consume_future)
            result.check_raise()
            continue
        del fetcher._records[tp]
        fetcher._notify(fetcher._wait_consume_future)
        if result.check_assignment(tp) and result.has_more():
            taken.append(_whole(fetcher, tp, result))
    return taken


def _whole(fetcher: Any, tp: TopicPartition, result: FetchResult) -> RawFetch:
    """Move the partition's position past the whole fetch and hand out its batches."""
    records, state = result._partition_records, result._assignment.state_value(tp)
    start = records.next_fetch_offset
    batches = []
    while records._records.has_next():
        batches.append(records._records.next_batch())
    next_offset = max(start, batches[-1].next_offset)
    state.consumed_to(next_offset)
    committed = fetcher._isolation_level == READ_COMMITTED
    aborted = [Aborted(*one) for one in records._aborted_transactions] if committed else []
    highwater = state.highwater if state.highwater is not None else next_offset
    return RawFetch(
        tp.topic,
        tp.partition,
        start,
        next_offset,
        batches,
        aborted,
        fetcher._check_crcs,
        highwater,
        raw=batches_of(records._records.data, len(batches)),
    )


def batches_of(data: bytes, count: int) -> list[memoryview]:
    """The bytes of the first `count` record batches (of any format: base offset, length, the rest)."""
    found, at, view = [], 0, memoryview(data)
    for _ in range(count):
        end = at + _LENGTH_FROM + int.from_bytes(view[at + 8 : at + _LENGTH_FROM], "big")
        found.append(view[at:end])
        at = end
    return found


def answered_at(consumer: AIOKafkaConsumer, tp: TopicPartition) -> int | None:
    """Wall clock (ms) of the broker's last answer for the partition, None before the first."""
    found: int | None = consumer._subscription.subscription.assignment.state_value(tp).timestamp
    return found


def position_of(consumer: AIOKafkaConsumer, tp: TopicPartition) -> int:
    """The position, without the round trip that `AIOKafkaConsumer.position` makes when it is not known."""
    return int(consumer._subscription.subscription.assignment.state_value(tp).position)


def fetch_past_buffered(consumer: AIOKafkaConsumer) -> None:
    """Go on fetching other partitions at once while one has a fetch that nobody takes (aiokafka: after 0.1
    s)."""
    consumer._fetcher._prefetch_backoff = 0.0


async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> list[int]:
    """Partition numbers. Raises UnknownTopicOrPartitionError after the request time-out."""
    return sorted(await consumer._client._wait_on_metadata(topic))


def keep_in_group(consumer: AIOKafkaConsumer) -> None:
    """Reset the clock after which aiokafka leaves a group that nobody polls (during a long recovery)."""
    with consumer._subscription.fetch_context():
        pass
