"""Sending a checkpoint's records (2, 3, 4): whole batches; a call per record costs ten times as much."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from streams.durable import Message, Row
from streams.faust_private.producer import WholeBatch
from streams.record_batch import split

BATCH_BYTES_MAX = 4 << 20
"""Before compression. Each batch costs several rounds of a busy loop, and all of them count against the
transaction's time-out, so few large ones; making one holds the loop for 4 to 7 ms."""
ALONE_PER_TURN = 100
"""Messages with headers, dead letters above all, that are handed over in one hold of the loop."""


class Sent(NamedTuple):
    """A batch on its way; the future is done when the broker has it."""

    future: asyncio.Future[RecordMetadata]
    batch: WholeBatch


async def send_messages(
    producer: AIOKafkaProducer, messages: Sequence[Message]
) -> list[asyncio.Future[RecordMetadata]]:
    """One future per record or batch: records of one partition go as whole batches, those with headers or
    without a partition alone."""
    alone: list[asyncio.Future[RecordMetadata]] = []
    together: dict[tuple[str, int], list[Row]] = {}
    for number, one in enumerate(messages, 1):
        if number % ALONE_PER_TURN == 0:
            await asyncio.sleep(0)  # sending does not let go of the loop
        if one.partition is None or one.headers or one.key is None:
            headers = list(one.headers)
            alone.append(
                await producer.send(one.topic, one.value, one.key, partition=one.partition, headers=headers)
            )
        else:
            together.setdefault((one.topic, one.partition), []).append((one.key, one.value))
    for (topic, partition), records in together.items():
        alone += [sent.future for sent in await send_batches(producer, topic, partition, records)]
    return alone


async def send_batches(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    records: Sequence[Row],
    any_order: bool = False,
) -> list[Sent]:
    """Send records of one partition, in their order or (all but the last) in any."""
    now_ms = int(time.time() * 1_000)
    sent: list[Sent] = []
    for part in split(records, BATCH_BYTES_MAX, any_order):
        batch = WholeBatch(part, now_ms)
        sent.append(Sent(await producer.send_batch(batch, topic, partition=partition), batch))
        await asyncio.sleep(0)
    return sent
