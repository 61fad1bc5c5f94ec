"""Sending a checkpoint's records (2, 3, 4): whole batches; a call per record costs ten times as much."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from streams.durable import Message, Row


async def send_messages(
    producer: AIOKafkaProducer, messages: Sequence[Message]
) -> list[asyncio.Future[RecordMetadata]]:
    """One future per record or batch: records of one partition go as whole batches, those with headers or
    without a partition alone."""
    alone: list[asyncio.Future[RecordMetadata]] = []
    together: dict[tuple[str, int], list[Row]] = {}
    for one in messages:
        if one.partition is None or one.headers or one.key is None:
            headers = list(one.headers)
            alone.append(
                await producer.send(one.topic, one.value, one.key, partition=one.partition, headers=headers)
            )
        else:
            together.setdefault((one.topic, one.partition), []).append((one.key, one.value))
    for (topic, partition), records in together.items():
        _, sent = await send_batches(producer, topic, partition, records)
        alone += [future for future, _ in sent]
    return alone


async def send_batches(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[Row]
) -> tuple[int, list[tuple[asyncio.Future[RecordMetadata], int]]]:
    """Returns bytes sent, and for each batch its future and how many records it has."""
    now_ms, size = int(time.time() * 1_000), 0
    sent: list[tuple[asyncio.Future[RecordMetadata], int]] = []
    batch = producer.create_batch()
    for key, value in records:
        if batch.append(timestamp=now_ms, key=key, value=value) is None:
            size += batch.size()
            sent.append((await producer.send_batch(batch, topic, partition=partition), batch.record_count()))
            await asyncio.sleep(0)
            batch = producer.create_batch()
            batch.append(timestamp=now_ms, key=key, value=value)  # the first one always fits
    if batch.record_count():
        size += batch.size()
        sent.append((await producer.send_batch(batch, topic, partition=partition), batch.record_count()))
    return size, sent
