"""What is watched while things break: gaps in service by partition, and versions as a reader sees them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from serving.errors import FeedError
from serving.reader import FeedReader
from wire.names import ACTIVITIES, Namespace

POLL_S = 0.2
ANSWER_S = 5.0
GAP_S_MIN = 1.5
"""Workers tell the group their position once a second: a gap below this is none."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A partition with records waiting whose position stood still, in seconds of the monotonic clock."""

    partition: int
    began_s: float
    ended_s: float

    @property
    def seconds(self) -> float:
        return self.ended_s - self.began_s


class GapWatch(threading.Thread):
    """Polls the group's position. While the broker does not answer, nothing moves either."""

    def __init__(self, bootstrap: str, names: Namespace, partitions: int) -> None:
        super().__init__(name="gaps", daemon=True)
        self.gaps: list[Gap] = []
        self.looks = 0
        self._ending = threading.Event()
        self._partitions = [TopicPartition(ACTIVITIES, p) for p in range(partitions)]
        self._consumer: Any = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": names.group,
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )

    def run(self) -> None:
        last: dict[int, tuple[int, float]] = {}
        while not self._ending.wait(POLL_S):
            try:
                found = self._consumer.committed(self._partitions, timeout=ANSWER_S)
                ends = [
                    self._consumer.get_watermark_offsets(p, timeout=ANSWER_S)[1] for p in self._partitions
                ]
            except KafkaException:
                continue
            now = time.monotonic()
            self.looks += 1
            for place, end in zip(found, ends, strict=True):
                position, since = last.get(place.partition, (place.offset, now))
                if place.offset != position or place.offset >= end:
                    if now - since >= GAP_S_MIN:
                        self.gaps.append(Gap(place.partition, since, now))
                    last[place.partition] = (place.offset, now)
                else:
                    last[place.partition] = (position, since)

    def stop(self) -> None:
        """End it."""
        self._ending.set()
        self.join(30)
        self._consumer.close()


class VersionWatch(threading.Thread):
    """Reads the feeds of some users in turn; `backwards`: every version that was older than one before."""

    def __init__(self, redis_url: str, namespace: str, users: Sequence[str]) -> None:
        super().__init__(name="reader", daemon=True)
        self.backwards: list[str] = []
        self.pages = 0
        self._reader = FeedReader.from_url(redis_url, namespace=namespace, timeout_s=1.0)
        self._users, self._seen = users, dict[str, str]()
        self._ending, self._lock = threading.Event(), threading.Lock()

    def run(self) -> None:
        while not self._ending.is_set():
            for user in self._users:
                with self._lock:
                    self._look(user)
                if self._ending.wait(0.01):
                    return

    def _look(self, user: str) -> None:
        try:
            page = self._reader.page(user, record=False)
        except FeedError:
            return
        if page.source != "feed":
            return
        self.pages += 1
        if page.version < self._seen.get(user, ""):
            self.backwards.append(f"{user}: {page.version} after {self._seen[user]}")
        self._seen[user] = page.version

    def forget(self, empty: Any) -> None:
        """Redis is emptied by `empty`: versions begin anew."""
        with self._lock:
            empty()
            self._seen.clear()

    def stop(self) -> None:
        """End it."""
        self._ending.set()
        self.join(30)
        self._reader.close()
