"""Benchmark `freshness`: from an activity to its feed in Redis, at half the sustained rate, and mixed.

First a backlog shows the rate that the worker sustains. Then open-loop loads run at an eighth, a quarter and
half of it with few visits, and at half with so many visits that ranking has as much to do as ingest. The
worker's histogram counts every feed; an observer outside of it sees some of them come.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.figure import Figure
from benchmarks.load import BURST_PER_S
from benchmarks.measure import Contender
from benchmarks.observer import Observer
from benchmarks.place import Place, running
from benchmarks.processes import cpu_s, peak_mb
from benchmarks.stream import ActivityStream, produce_items
from benchmarks.worker import Scrape, Worker, quantile, source_path
from tests.services import start_kafka, start_redis
from wire.names import ACTIVITIES, ITEMS

BACKLOG_S = 30
"""Seconds x BURST_PER_S activities of backlog: several checkpoints of one that is behind."""
FEW_VISITS_PER_S = 200
MANY_VISITS_PER_S = 1_000
LOADS = (
    ("an eighth of the sustained rate", 1 / 8, FEW_VISITS_PER_S),
    ("a quarter of the sustained rate", 1 / 4, FEW_VISITS_PER_S),
    ("half the sustained rate", 1 / 2, FEW_VISITS_PER_S),
    ("mixed", 1 / 2, MANY_VISITS_PER_S),
)
"""Name, share of the sustained rate, visits/s. Goals are for half of it; the others show where it bends."""
SETTLE_S = 5
P50_GOAL_MS = 50.0
P99_GOAL_MS = 250.0
HOLD_GOAL_MS = 10.0
METRIC = "event_to_redis_seconds"
HOLDERS = 6


@dataclass(frozen=True, slots=True)
class Scene:
    """A running worker with its servers."""

    place: Place
    worker: Worker
    bootstrap: str
    redis_url: str
    partitions: int

    def load(self, rate: float, seconds: float, visits: float, seed: int) -> Contender:
        """Start a load process and wait until it sends."""
        arguments = [f"{rate:.0f}", str(seconds), f"{visits:.0f}", str(seed)]
        command = [sys.executable, "-m", "benchmarks.load", self.bootstrap, ACTIVITIES, *arguments]
        log = self.worker.directory / f"load-{seed}.txt"
        process = Contender(f"load of {rate:,.0f}/s", command, log, source_path())
        process.watch(lambda: "started" in log.read_text(), 120, "make its values")
        return process


def run(place: Place) -> Iterator[Figure]:
    """Sustained rate; then both loads."""
    with ExitStack() as servers:
        broker = servers.enter_context(running(start_kafka(place.directory / "freshness-kafka")))
        redis = servers.enter_context(running(start_redis(place.directory / "freshness-redis")))
        stream = ActivityStream(1_000, items=50_000)
        where = place.directory / "freshness-worker"
        worker = Worker(where, broker.bootstrap, redis.url, "bench", "avro", RANK_BUDGET_PER_S="5000")
        worker.create_topics(stream.partitions)
        produce_items(broker.bootstrap, ITEMS, stream, "avro", time.time_ns() // 1_000_000)
        scene = Scene(place, worker, broker.bootstrap, redis.url, stream.partitions)
        scene.load(0, BACKLOG_S, FEW_VISITS_PER_S, 1).wait(300)
        process = worker.start()
        try:
            worker.follow(BACKLOG_S * BURST_PER_S, 300)
            sustained = process.outcome.per_second(BACKLOG_S * BURST_PER_S // 3)
            for seed, (subject, share, visits) in enumerate(LOADS, 2):
                yield from _measure(scene, subject, sustained * share, visits, seed)
        finally:
            process.stop()


def _measure(scene: Scene, subject: str, rate: float, visits: int, seed: int) -> Iterator[Figure]:
    """Quantiles of one load, inside and outside, and the longest hold of the event loop."""
    seconds = scene.place.seconds
    load = scene.load(rate, SETTLE_S + seconds + 2, visits, seed)
    worker, pid = scene.worker, scene.worker.process.pid
    try:
        time.sleep(SETTLE_S)
        observer = Observer(scene.bootstrap, scene.redis_url, "bench", scene.partitions)
        before, cpu_before, began = worker.measured(), cpu_s(pid), time.monotonic()
        observer.watch(seconds)
        after, cpu_after, ended = worker.measured(), cpu_s(pid), time.monotonic()
        load.wait(60)
        observer.wait_for_the_last()
    finally:
        load.stop()
    feeds = (after.total("feeds_total") - before.total("feeds_total")) / (ended - began)
    cores = (cpu_after - cpu_before) / (ended - began)
    late_s = load.log.read_text().split()[-1]
    note = (
        f"{rate:,.0f} activities/s, {feeds:,.0f} feeds/s, {cores:.2f} cores; load late by {late_s} s at most"
    )
    for q, goal in ((0.5, P50_GOAL_MS), (0.99, P99_GOAL_MS)):
        name = f"{subject}, p{q * 100:.0f}"
        inside = quantile(before, after, METRIC, q) * 1_000
        yield _ms(f"{name}, worker's histogram", inside, goal, note, cpu_after - cpu_before, peak_mb(pid))
        seen = f"{len(observer.seconds)} visits seen, {observer.unanswered} without a feed"
        yield _ms(f"{name}, observer outside", observer.quantile_ms(q), goal, seen)
    held = quantile(before, after, "loop_hold_seconds", 1.0) * 1_000
    spent = after.spread("loop_held_seconds_total", "by", since=before)
    longest = after.spread("loop_hold_max_seconds", "by", since=Scrape(""))
    note = (
        "upper bound of the highest bucket in use; time in callbacks above 1 ms: "
        + ", ".join(f"{by} {seconds:.2f} s" for by, seconds in spent[:HOLDERS])
        + "; longest since the start: "
        + ", ".join(f"{by} {seconds * 1_000:.0f} ms" for by, seconds in longest[:HOLDERS])
    )
    yield _ms(f"{subject}, longest loop hold", held, HOLD_GOAL_MS, note)


def _ms(
    subject: str, value: float, goal: float, note: str, cpu_s: float | None = None, mb: float | None = None
) -> Figure:
    return Figure(
        "freshness", subject, value, "ms", goal=goal, better="lower", cpu_s=cpu_s, peak_mb=mb, note=note
    )
