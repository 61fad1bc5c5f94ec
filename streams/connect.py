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
        done, _ = await asyncio.wait([starting], timeout=LEAVE_S)
        if not done:
            starting.cancel()
        elif not starting.cancelled():
            starting.exception()  # nobody waits for it any more
        raise


async def connect_patiently(client: AIOKafkaConsumer | AIOKafkaProducer, within_s: float) -> None:
    """As `connect`; again while no broker takes the connection.

    Raises KafkaConnectionError when none did within the time, TimeoutError when one took it and said nothing,
    other KafkaError as it comes.
    """
    async with asyncio.timeout(within_s) as limit:
        while True:
            try:
                return await connect(client)
            except KafkaConnectionError:
                deadline_s = limit.when()
                assert deadline_s is not None
                if asyncio.get_running_loop().time() + RETRY_S >= deadline_s:
                    raise
            await asyncio.sleep(RETRY_S)
