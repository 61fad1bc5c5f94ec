"""Connecting to Kafka (all steps): no socket is left behind, and a broker that restarts is waited for.

aiokafka forgets the connection that it asks for metadata when it is cancelled meanwhile: the socket stays
open until the interpreter finds it. So starting a client goes on for a moment after its caller has given up.
"""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

RETRY_S = 0.25
LEAVE_S = 2.0


async def connect(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Start it. The caller stops it, also when this fails or is cancelled.

    Raises KafkaError.
    """
    starting = asyncio.ensure_future(client.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await let_end(starting, LEAVE_S)
        raise


async def connect_patiently(client: AIOKafkaConsumer | AIOKafkaProducer, within_s: float) -> None:
    """As `connect`; again while no broker takes the connection.

    Raises KafkaConnectionError when none did within the time, TimeoutError when one took it and said nothing,
    other KafkaError as it comes.
    """
    clock = asyncio.get_running_loop().time
    deadline_s = clock() + within_s
    async with asyncio.timeout_at(deadline_s):
        while True:
            try:
                return await connect(client)
            except KafkaConnectionError:
                if clock() + RETRY_S >= deadline_s:
                    raise
            await asyncio.sleep(RETRY_S)


async def let_end(task: asyncio.Future[None], within_s: float) -> None:
    """Give it so long to end by itself, then cut it short. Its error is nobody's any more."""
    done, _ = await asyncio.wait([task], timeout=within_s)
    if not done:
        task.cancel()
        await asyncio.wait([task], timeout=within_s)
    elif not task.cancelled():
        task.exception()
