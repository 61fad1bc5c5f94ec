"""Ours: one `feedrank worker` process, watched from outside through /readyz and /metrics."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.measure import BenchmarkFailed, Contender, Mark
from benchmarks.processes import cpu_s
from tests.services import ROOT, free_port
from wire.names import ACTIVITIES, Namespace

READY_S_MAX = 300.0
ASK_S_MAX = 10.0
POLL_S = 0.1


class Scrape:
    """One reading of /metrics."""

    def __init__(self, text: str) -> None:
        self.samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def total(self, name: str, **labels: str) -> float:
        """Sum of a metric (without the prefix `feedrank_`) over all children with these labels."""
        found = self.samples.get(f"feedrank_{name}", [])
        return sum(value for has, value in found if labels.items() <= has.items())

    def spread(self, name: str, label: str, since: Scrape) -> list[tuple[str, float]]:
        """What each value of a label gained since an earlier reading, most first."""
        before = {has[label]: value for has, value in since.samples.get(f"feedrank_{name}", [])}
        now = self.samples.get(f"feedrank_{name}", [])
        gained = [(has[label], value - before.get(has[label], 0.0)) for has, value in now]
        return sorted(gained, key=lambda one: -one[1])

    def buckets(self, name: str) -> list[tuple[float, float]]:
        """(upper bound, cumulative count) of a histogram without labels, ascending."""
        found = self.samples.get(f"feedrank_{name}_bucket", [])
        return sorted((float(has["le"]), value) for has, value in found)


def quantile(before: Scrape, after: Scrape, name: str, q: float) -> float:
    """The q-quantile of what a histogram gained between two readings, linear within its bucket.

    Raises ValueError when it gained nothing.
    """
    old = dict(before.buckets(name))
    gained = [(bound, count - old.get(bound, 0.0)) for bound, count in after.buckets(name)]
    if not gained or not gained[-1][1]:
        raise ValueError(f"feedrank_{name} did not move: nothing was measured")
    rank, low, below = q * gained[-1][1], 0.0, 0.0
    for bound, count in gained:
        if count >= rank:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (rank - below) / max(count - below, 1e-9)
        low, below = bound, count
    return low


def feedrank(*arguments: str) -> list[str]:
    """Command line of this installation's `feedrank`."""
    return [sys.executable, "-m", "feedrank.cli", *arguments]


class Worker:
    """A worker process in a directory of its own; `environment` may be changed before start.

    `command`: what to run instead of `feedrank worker`.
    """

    def __init__(
        self,
        directory: Path,
        bootstrap: str,
        redis_url: str,
        namespace: str,
        kind: str,
        command: Sequence[str] = (),
        **settings: str,
    ) -> None:
        self._command = command or feedrank("worker")
        self.port = free_port()
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.environment = {
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "REDIS_URL": redis_url,
            "FEEDRANK_NAMESPACE": namespace,
            "FEEDRANK_DATA_DIR": str(directory / "data"),
            "FEEDRANK_FORMAT": kind,
            "FEEDRANK_LOG_LEVEL": "warning",
            "WORKER_PORT": str(self.port),
            **settings,
        }
        self._contender: Contender | None = None
        self._starts = 0

    def create_topics(self, partitions: int) -> None:
        """`feedrank topics create`. Raises BenchmarkFailed."""
        log = self.directory / "topics.txt"
        command = feedrank("topics", "create", "--partitions", str(partitions), "--replication", "1")
        with log.open("wb") as out:
            env = os.environ | self.environment
            done = subprocess.run([*command, "--keep-all"], stdout=out, stderr=out, env=env, check=False)
        if done.returncode:
            raise BenchmarkFailed("`feedrank topics create` failed", log)

    def start(self, subject: str = "feedrank") -> Contender:
        """Start the process; does not wait."""
        self._starts += 1
        log = self.directory / f"worker-{self._starts}.txt"
        self._contender = Contender(subject, self._command, log, self.environment)
        return self._contender

    @property
    def process(self) -> Contender:
        """The running process."""
        assert self._contender is not None, "start() comes first"
        return self._contender

    def wait_ready(self, timeout_s: float = READY_S_MAX, every_s: float = 0.1) -> float:
        """Wait for /readyz; returns the CPU seconds used until then."""
        self.process.watch(self.ready, timeout_s, "become ready", every_s)
        return cpu_s(self.process.pid)

    def ready(self) -> bool:
        """Whether /readyz says 200."""
        return self._get("/readyz") is not None

    def alive(self) -> bool:
        """Whether /livez says 200."""
        return self._get("/livez") is not None

    def scrape(self) -> Scrape | None:
        """Read /metrics; None when it does not answer yet."""
        text = self._get("/metrics")
        return None if text is None else Scrape(text)

    def measured(self) -> Scrape:
        """Read /metrics. Raises BenchmarkFailed when it does not answer."""
        found = self.scrape()
        if found is None:
            raise BenchmarkFailed("/metrics does not answer", self.process.log)
        return found

    def follow(self, activities: int, timeout_s: float, every_s: float = 0.5) -> None:
        """Sample progress against CPU until every activity is applied and durable."""

        def done() -> bool:
            found = self.scrape()
            if found is None:
                return False
            dead = found.total("dead_letters_total")
            if dead:
                raise BenchmarkFailed(f"the worker refused {dead:,.0f} activities", self.process.log)
            at = int(found.total("position_records", topic=ACTIVITIES))
            self.process.sample(at)
            return at >= activities

        self.process.watch(done, timeout_s, f"apply {activities} activities", every_s)
        self._await_durable(activities, timeout_s)

    def _await_durable(self, activities: int, timeout_s: float) -> None:
        """Wait until checkpoints hold all, and charge the CPU of that to the last mark."""
        config = {"bootstrap.servers": self.environment["KAFKA_BOOTSTRAP_SERVERS"]}
        group = Namespace(self.environment["FEEDRANK_NAMESPACE"]).group
        consumer = Consumer(config | {"group.id": group, "enable.auto.commit": False, "log_level": 3})
        partitions = consumer.list_topics(ACTIVITIES, timeout=30).topics[ACTIVITIES].partitions
        places = [TopicPartition(ACTIVITIES, partition) for partition in partitions]

        def done() -> bool:
            try:
                found = consumer.committed(places, 30)
            except KafkaException:  # the group's coordinator moves, or is not there yet
                return False
            return bool(sum(max(p.offset, 0) for p in found) >= activities)

        try:
            self.process.watch(done, timeout_s, "make all durable", POLL_S)
        finally:
            consumer.close()
        marks = self.process.outcome.marks
        marks[-1] = Mark(marks[-1].processed, cpu_s(self.process.pid), marks[-1].wall_s)

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=ASK_S_MAX) as answer:
                return str(answer.read().decode())
        except OSError:  # refused, cut off, or a status that is not 200
            return None


def source_path() -> dict[str, str]:
    """Environment that lets a peer's process import this checkout."""
    return {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
