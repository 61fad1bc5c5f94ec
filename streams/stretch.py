"""A stretch of one partition, read once more (before 1 and 4): for who could not keep what it held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.batch import RecordBatch
from streams.concerns import KafkaSettings
from streams.connect import connect
from streams.faust_private.raw import take
from streams.fetch import Unpacker
from streams.recovery import Arrival

POLL_S = 0.1


async def read_stretch(
    kafka: KafkaSettings,
    topic: str,
    start: int,
    stop: int,
    on_batch: Callable[[RecordBatch], Awaitable[None]],
    *,
    partition: int,
    records_max: int,
) -> None:
    """Give the committed records from offset `start` up to `stop`, and maybe some after it, to `on_batch` in
    offset order. Ends also where compaction has taken the last of them.

    Raises KafkaError, OSError or TimeoutError when the broker does not answer; what `on_batch` raises.
    """
    if start >= stop:
        return
    place = TopicPartition(topic, partition)
    consumer = AIOKafkaConsumer(
        **kafka.aiokafka(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=kafka.fetch_bytes_max,
        request_timeout_ms=kafka.request_timeout_ms,
    )
    try:
        async with asyncio.timeout(kafka.request_timeout_ms / 1_000):
            await connect(consumer)
        consumer.assign([place])  # no await before the seek: the fetcher would ask for offsets
        consumer.seek(place, start)
        arrival, position = Arrival(consumer), start
        while position < stop and not arrival.reached(place, stop):
            for fetch in await take(consumer, lambda: None, POLL_S):
                for batch in Unpacker(fetch).batches(records_max):
                    await on_batch(batch)
                    position = batch.next_offset
    finally:
        await consumer.stop()
