"""Sending a checkpoint's records (2, 3, 4): whole batches; a call per record costs ten times as much.

Everything is made before the transaction begins, in turns of a few milliseconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from streams.durable import Message, Row, parts
from streams.faust_private.producer import WholeBatch
from streams.record_batch import Body, split
from streams.turns import Turns

T = TypeVar("T")

TURN = "checkpoint"
MESSAGES_PER_TURN = 2_000
BATCH_BYTES_MAX = 2 << 20
"""Before compression. Each batch costs several rounds of a busy loop, and all of them count against the
transaction's time-out, so few large ones. Making one takes 2 to 7 ms, in the thread beside the loop."""
ALONE_PER_TURN = 100
"""Messages with headers, dead letters above all, that are handed over in one hold of the loop."""


class Sent(NamedTuple):
    """A batch on its way; the future is done when the broker has it."""

    future: asyncio.Future[RecordMetadata]
    batch: WholeBatch


@dataclass(slots=True)
class Ready:
    """Messages as they will be sent. `size`: bytes of their values."""

    alone: list[Message] = field(default_factory=list)
    batches: list[tuple[str, int, WholeBatch]] = field(default_factory=list)
    size: int = 0


async def make_ready(messages: Sequence[Message], turns: Turns) -> Ready:
    """Records of one partition go as whole batches, those with headers or without a partition alone."""
    ready, together = Ready(), dict[tuple[str, int], list[Row]]()
    coming = parts(messages)
    while (part := await _next(coming, turns)) is not None:
        for number, one in enumerate(part, 1):
            if number % MESSAGES_PER_TURN == 0:
                await turns.take(TURN)
            ready.size += len(one.value or b"")
            if one.partition is None or one.headers or one.key is None:
                ready.alone.append(one)
            else:
                together.setdefault((one.topic, one.partition), []).append((one.key, one.value))
    for (topic, partition), records in together.items():
        ready.batches += [(topic, partition, batch) for batch in await make_batches(records, turns)]
    return ready


async def make_batches(rows: Sequence[Row], turns: Turns, any_order: bool = False) -> list[WholeBatch]:
    """Batches of one partition's records, in their order or (all but the last) in any."""
    made: list[WholeBatch] = []
    held: list[Row] = []
    size = 0
    coming = parts(rows)
    while (part := await _next(coming, turns)) is not None:
        more = sum(len(key) + len(value or b"") for key, value in part)
        if held and size + more > BATCH_BYTES_MAX:
            made += await _batches(held, turns, any_order)
            held, size = [], 0
        held += part
        size += more
    return made + await _batches(held, turns, any_order)


async def _batches(rows: list[Row], turns: Turns, any_order: bool) -> list[WholeBatch]:
    now_ms = int(time.time() * 1_000)
    made: list[WholeBatch] = []
    for records in split(rows, BATCH_BYTES_MAX, any_order):
        await turns.take(TURN)
        made.append(WholeBatch(await turns.beside(partial(Body.of, records)), now_ms))
    return made


async def _next(coming: Iterator[Sequence[T]], turns: Turns) -> Sequence[T] | None:
    """The next part of what is made later, made in one turn; None: that was all."""
    await turns.take(TURN)
    return next(coming, None)


async def send_ready(producer: AIOKafkaProducer, ready: Ready) -> list[asyncio.Future[RecordMetadata]]:
    """One future per record or batch."""
    futures: list[asyncio.Future[RecordMetadata]] = []
    for number, one in enumerate(ready.alone, 1):
        if number % ALONE_PER_TURN == 0:
            await asyncio.sleep(0)  # sending does not let go of the loop
        headers = list(one.headers)
        futures.append(
            await producer.send(one.topic, one.value, one.key, partition=one.partition, headers=headers)
        )
    for topic, partition, batch in ready.batches:
        futures += [sent.future for sent in await send_batches(producer, topic, partition, [batch])]
    return futures


async def send_batches(
    producer: AIOKafkaProducer, topic: str, partition: int, batches: Sequence[WholeBatch]
) -> list[Sent]:
    """Send batches of one partition, in their order."""
    sent: list[Sent] = []
    for batch in batches:
        sent.append(Sent(await producer.send_batch(batch, topic, partition=partition), batch))
        await asyncio.sleep(0)
    return sent
