"""The generator: a made-up stream with bad records in between, sent at a steady rate, whatever is broken."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

from confluent_kafka import Producer

from feedrank.load.events import ItemEvent
from feedrank.load.send import encoder
from tests.integration.test_oracle import as_event
from tests.oracle.made_up import Size, Stream
from wire.names import ACTIVITIES, ITEMS

BAD_SHARE = 0.01
TICK_S = 0.05
FLUSH_S = 900.0
"""A producer that gives a record up sends its neighbours again: of bad ones there are too many then."""


class Generator(threading.Thread):
    """Sends `activities` within about `seconds`, items first. `bad`: so many must become dead letters.

    `held_back`: so many of the last ones wait for `send_rest`.
    """

    def __init__(
        self, bootstrap: str, seed: int, activities: int, seconds: float, held_back: int = 0
    ) -> None:
        super().__init__(name="generator", daemon=True)
        stream = Stream(seed, Size(activities=activities, items=400, users=80, changing=False))
        events = [as_event(event) for event in stream.events if not isinstance(event, str)]
        self.items = [event for event in events if isinstance(event, ItemEvent)]
        self.activities = [event for event in events if not isinstance(event, ItemEvent)]
        self.as_of_ms = stream.end_ms + 60_000
        self.users = sorted({event.key for event in self.activities})
        self._rest = self.activities[len(self.activities) - held_back :]
        del self.activities[len(self.activities) - held_back :]
        self.sent = self.bad = 0
        self.failed: list[str] = []
        self._seconds, self._chance, self._encode = seconds, random.Random(seed), encoder("avro")
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "log_level": 0,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 5,
                "delivery.timeout.ms": int(FLUSH_S * 1_000),
            }
        )

    def send_items(self) -> None:
        """Before the first worker starts: an item comes before activities on it."""
        for item in self.items:
            self._put(ITEMS, item.key, self._encode(item), item.time_ms)
        self._producer.flush(FLUSH_S)

    def run(self) -> None:
        began, left = time.monotonic(), iter(self.activities)
        while self.sent < len(self.activities):
            due = int((time.monotonic() - began) / self._seconds * len(self.activities)) + 1
            for event in (next(left) for _ in range(min(due, len(self.activities)) - self.sent)):
                self._send(event)
                self.sent += 1
            self._producer.poll(TICK_S)
        if unsent := self._producer.flush(FLUSH_S):
            self.failed.append(f"{unsent} records were not taken")

    def send_rest(self) -> None:
        """What was held back, at once."""
        for event in self._rest:
            self._send(event)
            self.sent += 1
        if unsent := self._producer.flush(FLUSH_S):
            self.failed.append(f"{unsent} records were not taken")

    def _send(self, event: Any) -> None:
        value = self._encode(event)
        self._put(ACTIVITIES, event.key, value, event.time_ms)
        if self._chance.random() < BAD_SHARE:
            self._put(ACTIVITIES, event.key, value[: self._chance.randrange(1, len(value))], event.time_ms)
            self.bad += 1

    def _put(self, topic: str, key: str, value: bytes, time_ms: int) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key.encode(), timestamp=time_ms, on_delivery=self._heard)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(TICK_S)

    def _heard(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failed.append(str(error))
