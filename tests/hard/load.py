"""Activities by the million: encoded by hand, keyed by Kafka's client, happening as they are sent."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

from confluent_kafka import Producer

from benchmarks.load import varint
from feedrank.load.events import ActivityEvent
from feedrank.load.send import encoder
from tests.oracle.records import Activity
from wire.names import ACTIVITIES

Act = tuple[str, str, str]
"""User, verb, object."""

CHUNK = 1_000
HEADER = b"\0" * 5
MARK_MS = 1_234_567_890_123
FLUSH_S = 300.0
QUEUE_MAX = 200_000


class Load:
    """Sends acts; remembers those of the `watched` users, in order, for the oracle."""

    def __init__(self, bootstrap: str, watched: Collection[str]) -> None:
        self.watched, self.told = frozenset(watched), list[Activity]()
        self.sent = 0
        self.failed: list[str] = []
        self._encode = encoder("avro")
        self._ends: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        self._producer: Any = Producer(
            {
                "bootstrap.servers": bootstrap,
                "log_level": 0,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 5,
                "batch.size": 256 << 10,
                "queue.buffering.max.messages": 4 * QUEUE_MAX,
                "on_delivery": self._heard,
            }
        )

    def send(self, acts: Iterable[Act], per_s: float = 0.0) -> int:
        """All of them, at a rate or as fast as the broker takes them; how many. The broker has them."""
        began, before, left = time.monotonic(), self.sent, iter(acts)
        while chunk := list(islice(left, CHUNK if not per_s else max(1, min(CHUNK, int(per_s / 20))))):
            now_ms = time.time_ns() // 1_000_000
            for user, verb, thing in chunk:
                self._put(user, verb, thing, now_ms)
            self._producer.poll(0)
            while len(self._producer) > QUEUE_MAX:
                self._producer.poll(0.01)
            if per_s:
                time.sleep(max(0.0, began + (self.sent - before) / per_s - time.monotonic()))
        if unsent := self._producer.flush(FLUSH_S):
            self.failed.append(f"{unsent} records were not taken")
        return self.sent - before

    def _put(self, user: str, verb: str, thing: str, now_ms: int) -> None:
        name = f"h-{self.sent}"
        head, tail = self._around(verb, thing)
        value = b"".join([HEADER, _text(name), _text(user), head, varint(now_ms), tail])
        self._producer.produce(ACTIVITIES, value, user.encode(), timestamp=now_ms)
        if user in self.watched:
            self.told.append(Activity(name, user, verb, thing, now_ms))
        self.sent += 1

    def _around(self, verb: str, thing: str) -> tuple[bytes, bytes]:
        """What stands between user and time, and behind the time."""
        found = self._ends.get((verb, thing))
        if found is None:
            value = self._encode(ActivityEvent("n", "u", verb, thing, MARK_MS))
            head, _, tail = value[len(HEADER) + 4 :].partition(varint(MARK_MS))
            found = self._ends[verb, thing] = (head, tail)
        return found

    def _heard(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failed.append(str(error))


def _text(text: str) -> bytes:
    data = text.encode()
    return varint(len(data)) + data
