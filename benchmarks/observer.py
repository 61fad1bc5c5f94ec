"""An observer outside the worker: users visit, and Redis' own notification says when their feed is there."""

from __future__ import annotations

import threading
import time
from io import BytesIO

import numpy as np
import orjson
from confluent_kafka import Producer
from fastavro import schemaless_writer
from redis import Redis

from benchmarks.stream import AVRO_HEADER, avro_schema, partition_of
from wire.names import ACTIVITIES, Namespace

VISITS_PER_S = 25
USERS = 500
SURFACE = "for_you"
LAST_ANSWERS_S = 20.0
POLL_S = 0.05


class Observer:
    """Visits by USERS users in turn; `seconds` holds the time from each visit to its feed, as found."""

    def __init__(self, bootstrap: str, redis_url: str, namespace: str, partitions: int) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
        self._redis: Redis = Redis.from_url(redis_url)
        self._partitions = partitions
        self._channel = Namespace(namespace).changed
        self._asked: dict[str, float] = {}
        self._stop = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self.seconds: list[float] = []
        self.unanswered = 0

    def watch(self, duration_s: float) -> None:
        """Visit and listen for `duration_s`."""
        self._listener.start()
        end = time.monotonic() + duration_s
        visit = 0
        while time.monotonic() < end:
            self._visit(f"observed-{visit % USERS:04d}", visit)
            visit += 1
            time.sleep(1 / VISITS_PER_S)

    def wait_for_the_last(self) -> None:
        """Listen until every visit has its feed, for LAST_ANSWERS_S at most."""
        last = time.monotonic() + LAST_ANSWERS_S
        while self._asked and time.monotonic() < last:
            time.sleep(POLL_S)
        self._stop.set()
        self._listener.join(5)
        self.unanswered += len(self._asked)

    def quantile_ms(self, q: float) -> float:
        """Quantile of what was seen, in ms. Raises ValueError when nothing was answered."""
        if not self.seconds:
            raise ValueError(f"no feed came for any of {self.unanswered} visits; see the worker's log")
        return float(np.quantile(self.seconds, q)) * 1_000

    def _visit(self, user: str, number: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        record = dict.fromkeys(
            ("target", "dwell_ms", "position", "slate_id", "undone_verb", "undone_event_time")
        )
        out = BytesIO()
        out.write(AVRO_HEADER)
        known = {"activity_id": f"visit-{now_ms}-{number}", "actor": user, "verb": "visit", "object": "feed"}
        schemaless_writer(out, avro_schema("activity"), record | known | {"event_time": now_ms})
        self.unanswered += user in self._asked
        self._asked[user] = time.monotonic()
        partition = partition_of(user.encode(), self._partitions)
        self._producer.produce(ACTIVITIES, out.getvalue(), user, partition, timestamp=now_ms)
        self._producer.poll(0)

    def _listen(self) -> None:
        channel = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        channel.subscribe(self._channel)
        while not self._stop.is_set():
            message = channel.get_message(timeout=0.2)
            if message is None:
                continue
            now = time.monotonic()
            for user, surface, _ in orjson.loads(message["data"]):
                if surface == SURFACE and user in self._asked:
                    self.seconds.append(now - self._asked.pop(user))
        channel.close()
