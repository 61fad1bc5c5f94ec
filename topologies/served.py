"""The served log (11): what was emitted, with the coordinates to rebuild it, one record per feed.

It is written after Redis took the feed and outside the checkpoint: a crash in between loses the record of a
feed that was shown for a moment, never a row. Records are JSON with the feed's own key order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.concerns import KafkaSettings
from streams.connect import connect
from streams.feeds import Outcome
from streams.log import logger
from streams.metrics import Metrics
from topologies.feed_making import MadeFeed
from wire.names import Namespace

LINGER_MS = 20
BATCH_BYTES = 64 << 10
RECORDS_AT_ONCE = 16
"""Made in one hold of the loop."""
UNSENT_MAX = 10_000
SAID_EVERY_S = 10.0

log = logger(__name__)


@dataclass(slots=True)
class ServedLog:
    """Sends records of one namespace; keyed by the actor, in the partition of the actor's activities."""

    kafka: KafkaSettings
    names: Namespace
    metrics: Metrics
    _producer: AIOKafkaProducer | None = None
    _unsent: set[asyncio.Future[object]] = field(default_factory=set)
    _said_s: float = float("-inf")

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        self._producer = AIOKafkaProducer(
            **self.kafka.aiokafka(), linger_ms=LINGER_MS, max_batch_size=BATCH_BYTES, compression_type="lz4"
        )
        await connect(self._producer)

    async def stop(self) -> None:
        """Send what is left."""
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def send(self, partition: int, made: Sequence[MadeFeed], outcomes: Sequence[Outcome]) -> None:
        """Hand over the records of feeds that Redis took; waits only when the broker is far behind."""
        producer = self._producer
        if producer is None:
            return
        for number, (one, outcome) in enumerate(zip(made, outcomes, strict=True), 1):
            if number % RECORDS_AT_ONCE == 0:
                await asyncio.sleep(0)
            if outcome is Outcome.WRITTEN:
                key = one.feed.user.encode()
                try:
                    sent = await producer.send(self.names.served, one.record(), key, partition=partition)
                except KafkaError as error:
                    self._lost(error)
                    continue
                self._unsent.add(sent)
                sent.add_done_callback(self._done)
        if len(self._unsent) > UNSENT_MAX:
            await asyncio.wait(self._unsent, return_when=asyncio.FIRST_COMPLETED)

    def _done(self, sent: asyncio.Future[object]) -> None:
        self._unsent.discard(sent)
        if not sent.cancelled() and (error := sent.exception()) is not None:
            self._lost(error)

    def _lost(self, error: BaseException) -> None:
        self.metrics.served_lost.inc()
        if time.monotonic() - self._said_s >= SAID_EVERY_S:
            self._said_s = time.monotonic()
            log.warning("served records are not written", why=repr(error))
