"""Where the API's activities go: Kafka, with an answer for those who wait for one (1)."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from serving.activities import Activity
from wire.names import ACTIVITIES

DELIVERY_MS = 5_000
RECONNECT_MS_MAX = 1_000
"""While the client waits to connect again it does not look whose deadline has passed: 10 s by default."""
LINGER_MS = 5
QUEUE_RECORDS_MAX = 100_000
POLL_S = 0.1
STOP_S = 2.0
COMPLAINT_S = 10.0

Encode = Callable[[Activity], bytes]

_log = logging.getLogger(__name__)


class ActivitiesUnavailableError(Exception):
    """Kafka did not take activities within the deadline; some may have arrived: repeat with the same ids."""


class ActivitySink(Protocol):
    """Takes activities."""

    failed: int

    async def send(self, activities: Sequence[Activity]) -> None:
        """Return when all are acknowledged. Raises ActivitiesUnavailableError."""

    def offer(self, activity: Activity) -> None:
        """Send without waiting; may be lost when Kafka is away, which `failed` counts."""

    def close(self) -> None:
        """Wait for what is under way, at most STOP_S."""


class KafkaSink:
    """`connection`: properties for confluent-kafka; `encode` turns an activity into a record's value.

    Records are keyed by the actor and partitioned as Java does it (murmur2). A thread of its own polls for
    acknowledgements. `failed` counts records that Kafka did not take. `logs`: say so in the log now and then;
    not where whoever sends tells it anyway.
    """

    def __init__(self, connection: Mapping[str, Any], encode: Encode, logs: bool = True) -> None:
        self.failed = 0
        self._lost = 0
        self._logs = logs
        self._where = connection.get("bootstrap.servers", "")
        self._encode = encode
        self._complained_s = float("-inf")
        self._producer = Producer(
            {
                **connection,
                "partitioner": "murmur2_random",
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": LINGER_MS,
                "delivery.timeout.ms": DELIVERY_MS,
                "reconnect.backoff.max.ms": RECONNECT_MS_MAX,
                "queue.buffering.max.messages": QUEUE_RECORDS_MAX,
                "log_level": 0,
            }
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="activities", daemon=True)
        self._thread.start()

    async def send(self, activities: Sequence[Activity]) -> None:
        """Return when all are acknowledged. Raises ActivitiesUnavailableError."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        waiting = len(activities)

        def settle(error: KafkaError | None) -> None:
            nonlocal waiting
            waiting -= 1
            if done.done():
                return
            if error:
                done.set_exception(ActivitiesUnavailableError(self._explained(error)))
            elif waiting == 0:
                done.set_result(None)

        def delivered(error: KafkaError | None, _: Message) -> None:
            self._count(error, told=True)
            loop.call_soon_threadsafe(settle, error)

        for activity in activities:
            try:
                self._produce(activity, delivered)
            except KafkaException as error:
                self._count(error.args[0], told=True)
                raise ActivitiesUnavailableError(self._explained(error.args[0])) from error
        await done

    def offer(self, activity: Activity) -> None:
        """Send without waiting; may be lost when Kafka is away, which `failed` counts."""
        try:
            self._produce(activity, lambda error, _: self._count(error, told=False))
        except KafkaException as error:
            self._count(error.args[0], told=False)

    def close(self) -> None:
        """Wait for what is under way, at most STOP_S."""
        self._producer.flush(STOP_S)
        self._stopping.set()
        self._thread.join(STOP_S)

    def _produce(self, activity: Activity, delivered: Callable[[KafkaError | None, Message], None]) -> None:
        try:
            self._producer.produce(
                ACTIVITIES, self._encode(activity), activity["actor"].encode(), on_delivery=delivered
            )
        except BufferError as error:
            raise KafkaException(KafkaError(KafkaError._QUEUE_FULL)) from error

    def _count(self, error: KafkaError | None, told: bool) -> None:
        """`told`: whoever sent it hears of it and can send it again."""
        if error is None:
            return
        self.failed += 1
        self._lost += not told
        now_s = time.monotonic()
        if self._logs and now_s - self._complained_s > COMPLAINT_S:
            self._complained_s = now_s
            _log.warning(
                "%s (so far %d activities refused, whose senders know to repeat them, and %d visits lost)",
                self._explained(error),
                self.failed - self._lost,
                self._lost,
            )

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(POLL_S)

    def _explained(self, error: KafkaError) -> str:
        at = f"Kafka at {self._where}"
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            return f"{at}: the topic {ACTIVITIES} is missing; create it with `feedrank topics create`"
        return f"{at} does not take activities: {error.str()}; check KAFKA_BOOTSTRAP_SERVERS"
