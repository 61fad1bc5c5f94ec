"""One worker with its servers, what it used, and its rows beside the oracle's."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from benchmarks.processes import cpu_s, resident_mb
from benchmarks.worker import Scrape
from feedrank.load.events import ItemEvent
from tests.hard.load import Load
from tests.integration.conftest import drained, lags
from tests.integration.job import Job, Worker
from tests.oracle.feeds import World
from tests.oracle.records import Item
from tests.services import Redis, start_kafka, start_redis
from tests.waiting import until

PARTITIONS = 4
INGEST_RECORDS_MAX = 4_000
ITEMS = 5_000
DAY_MS = 86_400_000
FEEDS_PER_S = 50_000
"""The policy's budget: what the worker can do counts here, not what it is allowed to."""
FEW_FEEDS_PER_S = 50
"""Where rows are what counts."""


@dataclass
class Scene:
    """A worker that is ready. `wrong`: what did not hold, in words."""

    job: Job
    redis: Redis
    worker: Worker
    load: Load
    arena_rows: int
    policy: str
    items: list[ItemEvent]
    chance: random.Random
    wrong: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.worker.process.pid

    def cpu_s(self) -> float:
        return cpu_s(self.pid)

    def resident_mb(self) -> float:
        return resident_mb(self.pid)

    def scrape(self) -> Scrape:
        return Scrape(self.worker.metrics())

    def demand(self, held: bool, what: str) -> None:
        """Remember what does not hold."""
        if not held:
            self.wrong.append(what)

    def drain(self) -> None:
        """Until all that was sent is applied and committed."""
        until(lambda: drained(self.job), "all is applied", lambda: lags(self.job))

    def item(self) -> str:
        return self.chance.choice(self.items).item_id

    def post(self, author: str, name: str) -> None:
        """An author posts an item now."""
        now_ms = time.time_ns() // 1_000_000
        self.items.append(ItemEvent(name, author, now_ms, now_ms, ("tea",), name))
        self.job.load(self.items[-1:])

    def compare(self) -> int:
        """Rows of the watched users beside the oracle's, the ledger beside what was sent; how many rows."""
        world = World(self.policy, PARTITIONS)
        for one in self.items:
            world.put(Item(one.item_id, one.author, one.created_ms, one.topics, one.title or None, None))
        for activity in self.load.told:
            world.act(activity)
        expected = world.user_rows()
        found, ledgers = self._rows(expected.keys())
        different = [key for key, row in expected.items() if found.get(key) != row]
        self.demand(not different, f"{len(different)} of {len(expected)} rows differ: {different[:3]}")
        kept = [orjson.loads(ledger) for ledger in ledgers]
        applied = sum(one["applied"] + one["duplicates"] + one["withdrawn"] + one["dead"] for one in kept)
        self.demand(applied == self.load.sent, f"{applied} of {self.load.sent} activities are in the ledger")
        self.demand(not self.load.failed, f"the load: {self.load.failed[:3]}")
        return len(expected)

    def _rows(self, wanted: object) -> tuple[dict[bytes, bytes], list[bytes]]:
        """The newest rows of these keys and the newest position records; all others are skipped."""
        topic = self.job.names.users_changelog
        consumer = Consumer(
            {"bootstrap.servers": self.job.bootstrap, "group.id": "hard", "enable.partition.eof": True}
        )
        found: dict[bytes, bytes] = {}
        ledgers: dict[int, bytes] = {}
        try:
            consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
            reading = set(range(PARTITIONS))
            while reading:
                for message in consumer.consume(10_000, 0.5):
                    if message.error() is not None:
                        assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                        reading.discard(message.partition())
                        continue
                    key, value = message.key() or b"", message.value() or b""
                    if key == b"!position":
                        ledgers[message.partition()] = value
                    elif key in wanted:  # type: ignore[operator]
                        found[key] = value
        finally:
            consumer.close()
        return found, list(ledgers.values())


@contextmanager
def scene(
    directory: Path, arena_rows: int, watched: list[str], feeds_per_s: int = FEEDS_PER_S
) -> Iterator[Scene]:
    """Servers, items, a worker; all of it ends with the block."""
    text = files("models").joinpath("default_policy.toml").read_text()
    policy = text.replace("feeds_per_s = 500", f"feeds_per_s = {feeds_per_s}")
    assert policy != text
    path = directory / "policy.toml"
    path.write_text(policy)
    settings = {
        "FEEDRANK_CLOCK": "wall",
        "FEEDRANK_POLICY": str(path),
        "ARENA_ROWS_MAX": str(arena_rows),
        "INGEST_RECORDS_MAX": str(min(arena_rows, INGEST_RECORDS_MAX)),  # every one may be of another user
        "RANK_BUDGET_PER_S": str(feeds_per_s),
    }
    kafka, redis = start_kafka(directory / "kafka"), start_redis(directory / "redis")
    try:
        with Job(kafka.bootstrap, redis.url, directory, "hard", settings) as job:
            job.create_topics(PARTITIONS)
            now_ms = time.time_ns() // 1_000_000
            items = [
                ItemEvent(f"i-{n}", f"author-{n % 250}", at, at, ("tea", f"topic-{n % 40}"))
                for n, at in enumerate(range(now_ms - DAY_MS, now_ms - 1, DAY_MS // ITEMS))
            ]
            job.load(items)
            load = Load(kafka.bootstrap, watched)
            worker = job.start_worker()
            yield Scene(job, redis, worker, load, arena_rows, policy, items, random.Random(1))
    finally:
        for server in (kafka, redis):
            server.kill()
