"""The worker as a process, inside Faust's group, against a real broker: killed, stopped, joined, frozen."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.durable import POSITION_KEY
from tests.conftest import MakeTopic
from tests.services import ROOT, Kafka, create_topic
from tests.streams.fakes import expected, numbers, produce, read_all
from tests.waiting import GUARD_S, ended, slowness, until

pytestmark = pytest.mark.kafka

PARTITIONS = 4
CHAOS_S = 40.0
STOP_S_MAX = 5.0


@dataclass
class Group:
    """Workers of one namespace, each a process with a data directory of its own."""

    bootstrap: str
    namespace: str
    source: str
    out: str
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "FEEDRANK_NAMESPACE": self.namespace,
            "FEEDRANK_DATA_DIR": str(self.directory / name),
            "COUNTERS_SOURCE": self.source,
            "COUNTERS_OUT": self.out,
            "CHECKPOINT_MS": "100",
            "ROCKS_FLUSH_MS": "300",
            "SESSION_TIMEOUT_MS": "2000",
            "INGEST_RECORDS_MAX": "100",
            "COUNTERS_SLEEP_S": "0.04",
            "TRANSACTION_TIMEOUT_MS": "5000",
        }
        with (self.directory / f"{name}.log").open("wb") as log:
            self.workers[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.streams.counters"],
                cwd=ROOT,
                env={**os.environ, **settings, **self.environment},
                stdout=log,
                stderr=log,
            )

    def signal(self, name: str, number: int) -> None:
        self.workers[name].send_signal(number)

    def kill(self, name: str) -> None:
        self.workers[name].kill()
        self.workers.pop(name).wait()

    def end(self, name: str) -> tuple[int, float]:
        """SIGTERM to a worker that is up; exit code and seconds."""
        self.until(
            lambda: "worker is up" in self.log(name).rsplit("counters start", 1)[-1], f"{name} is not up"
        )
        self.signal(name, signal.SIGTERM)
        return ended(self.workers.pop(name))

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def committed(self) -> int:
        """Records that the group says are done, over all partitions."""
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": f"feedrank.{self.namespace}", "log_level": 0}
        )
        try:
            asked = [TopicPartition(self.source, p) for p in range(PARTITIONS)]
            return sum(max(one.offset, 0) for one in consumer.committed(asked, timeout=GUARD_S))
        except KafkaException:  # the group's coordinator is not up yet
            return 0
        finally:
            consumer.close()

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for as long as records are committed or somebody says something."""
        until(true, f"{what}; logs are in {self.directory}", self.moving)

    def moving(self) -> tuple[int, int]:
        return self.committed(), sum(len(self.log(name)) for name in self.workers)

    def check(self, records: dict[int, list[tuple[bytes, bytes]]]) -> None:
        """Rows as if applied one by one without a fault, and each record counted once in the messages."""

        async def read() -> None:
            for partition, sent in records.items():
                rows = dict(await read_all(self.bootstrap, f"{self.source}-changelog", partition))
                position = orjson.loads(rows.pop(POSITION_KEY) or b"")
                found = {key: tuple(orjson.loads(value or b"")) for key, value in rows.items()}
                assert found == expected(sent)
                assert position["position"] == len(sent)
                messages = await read_all(self.bootstrap, self.out, partition)
                assert sum(orjson.loads(value or b"")["since"] for _, value in messages) == len(sent)

        asyncio.run(read())


@pytest.fixture
def group(kafka: str, make_topic: MakeTopic, namespace: str, tmp_path: Path) -> Iterator[Group]:
    source = make_topic("in", partitions=PARTITIONS)
    make_topic("in-changelog", partitions=PARTITIONS, cleanup_policy="compact")
    out = make_topic("out", partitions=PARTITIONS)
    group = Group(kafka, namespace, source, out, tmp_path)
    yield group
    for worker in group.workers.values():
        worker.send_signal(signal.SIGCONT)
        worker.kill()
        worker.wait()


def fill(group: Group, count: int) -> dict[int, list[tuple[bytes, bytes]]]:
    """`count` records in each partition."""

    async def send() -> dict[int, list[tuple[bytes, bytes]]]:
        records = {p: numbers(count + p) for p in range(PARTITIONS)}
        for partition, sent in records.items():
            await produce(group.bootstrap, group.source, sent, partition)
        return records

    return asyncio.run(send())


def test_kill_9_again_and_again_loses_and_doubles_nothing(group: Group) -> None:
    records = fill(group, 8_000)
    total = sum(map(len, records.values()))
    group.environment["COUNTERS_SLEEP_S"] = "0.3"
    done = 0
    for kill in range(3):
        group.start("a")
        group.until(lambda done=done: group.committed() > done, f"no progress after kill {kill}")  # type: ignore[misc]
        group.kill("a")
        done = group.committed()
    assert done < total
    group.environment["COUNTERS_SLEEP_S"] = "0"
    group.start("a")
    group.until(lambda: group.committed() == total, "the rest was not done")
    assert group.end("a")[0] == 0
    group.check(records)


@pytest.mark.full
def test_workers_that_come_and_go_share_the_partitions(group: Group) -> None:
    records = fill(group, 4_000)
    total = sum(map(len, records.values()))
    group.start("a")
    group.until(lambda: group.committed() > 1_000, "a does nothing")
    group.start("b")
    group.until(lambda: group.committed() > 6_000, "a and b do nothing")
    code, seconds = group.end("a")
    assert code == 0
    assert seconds < STOP_S_MAX * slowness()
    group.until(lambda: group.committed() == total, "b does not finish")
    assert group.end("b")[0] == 0
    group.check(records)


def test_a_frozen_worker_that_wakes_up_cannot_write_over_its_successor(group: Group) -> None:
    records = fill(group, 4_000)
    total = sum(map(len, records.values()))
    group.start("a")
    group.until(lambda: group.committed() > 1_000, "a does nothing")
    group.signal("a", signal.SIGSTOP)
    group.start("b")
    group.until(lambda: group.committed() > 8_000, "b does not take over")
    group.signal("a", signal.SIGCONT)
    group.until(lambda: group.committed() == total, "the rest was not done")
    assert [group.end(name)[0] for name in ("a", "b")] == [0, 0]
    group.check(records)


def test_sigterm_in_the_middle_commits_what_is_applied(group: Group) -> None:
    records = fill(group, 3_000)
    total = sum(map(len, records.values()))
    group.start("a")
    group.until(lambda: group.committed() > 2_000, "a does nothing")
    code, seconds = group.end("a")
    assert code == 0
    assert seconds < STOP_S_MAX * slowness()
    group.start("a")
    group.until(lambda: group.committed() == total, "the rest was not done")
    assert group.end("a")[0] == 0
    group.check(records)


def test_a_missing_broker_ends_the_worker_with_its_code(group: Group) -> None:
    group.environment = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "REQUEST_TIMEOUT_MS": "2000"}
    group.start("a")
    assert group.workers["a"].wait(GUARD_S) == 3
    assert "127.0.0.1:1" in group.log("a")


def test_a_data_directory_that_cannot_be_made_ends_the_worker_with_its_code(group: Group) -> None:
    (group.directory / "a").write_text("a file")
    group.start("a")
    assert group.workers["a"].wait(GUARD_S) == 5
    assert "correct FEEDRANK_DATA_DIR" in group.log("a")


@pytest.mark.full
def test_a_broker_that_restarts_is_waited_for(private_kafka: Kafka, tmp_path: Path) -> None:
    bootstrap = private_kafka.bootstrap
    for name, policy in (("in", "delete"), ("in-changelog", "compact"), ("out", "delete")):
        create_topic(bootstrap, name, PARTITIONS, cleanup_policy=policy)
    group = Group(bootstrap, "restarts", "in", "out", tmp_path)
    records = fill(group, 6_000)
    total = sum(map(len, records.values()))
    group.start("a")
    try:
        for _ in range(2):
            done = group.committed()
            group.until(lambda done=done: group.committed() > done, "a does nothing")  # type: ignore[misc]
            private_kafka.kill()
            private_kafka.start()
        group.until(lambda: group.committed() == total, "the rest was not done")
        assert group.end("a")[0] == 0
        group.check(records)
    finally:
        for worker in group.workers.values():
            worker.kill()
            worker.wait()


@pytest.mark.full
def test_any_mix_of_kills_freezes_and_lost_disks_gives_the_same_rows(group: Group) -> None:
    seed = int(os.environ.get("CHAOS_SEED", "7"))
    chance, records = random.Random(seed), fill(group, 12_000)
    total, began = sum(map(len, records.values())), time.monotonic()
    group.environment["COUNTERS_SLEEP_S"] = "0.1"
    names = ["a", "b", "c"]
    for name in names:
        group.start(name)
    while time.monotonic() - began < CHAOS_S and group.committed() < total:
        time.sleep(chance.uniform(0.2, 1.5))
        name = chance.choice(names)
        if chance.random() < 0.3:
            group.signal(name, signal.SIGSTOP)
            time.sleep(chance.choice([0.5, 3.0, 7.0]))
            group.signal(name, signal.SIGCONT)
        else:
            group.kill(name)
            if chance.random() < 0.4:
                shutil.rmtree(group.directory / name, ignore_errors=True)
            group.start(name)
    group.until(lambda: group.committed() == total, f"seed {seed}: the rest was not done")
    assert [group.end(name)[0] for name in names] == [0, 0, 0]
    group.check(records)
