"""Benchmark `fencing`: what transactional checkpoints cost, beside the same worker without transactions.

Both read the same topic of the same broker, in turn and more than once, each time into a namespace of its
own. The worker without transactions keeps no promise (benchmarks/unfenced.py).
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator

from benchmarks.figure import Figure
from benchmarks.ingest import OURS_S_MAX, WARM_UP_SHARE, track
from benchmarks.place import Place
from benchmarks.processes import cpu_s
from benchmarks.stream import ActivityStream
from benchmarks.worker import Scrape, Worker, feedrank

PAIRS = 3
TRANSACTIONAL = feedrank("worker")
PLAIN = [sys.executable, "-m", "benchmarks.unfenced", "worker"]


def run(place: Place) -> Iterator[Figure]:
    """Activities per CPU-second of the worker, and seconds of one checkpoint, with and without."""
    stream = ActivityStream(place.activities)
    with track(place, "avro", stream, "fencing") as (_, first):
        pairs = [_pair(first, n, stream) for n in range(PAIRS)]
    rates = [(fenced[0], plain[0]) for fenced, plain in pairs]
    ratios = ", ".join(f"{fenced / plain:.3f}" for fenced, plain in rates)
    yield Figure(
        "fencing",
        "transactional checkpoints",
        statistics.median(rate for rate, _ in rates),
        "activities/CPU-s",
        peer="the same without transactions",
        peer_value=statistics.median(rate for _, rate in rates),
        note=f"median of {PAIRS} pairs over {stream.activities:,} activities; ratios by pair {ratios}",
    )
    yield Figure(
        "fencing",
        "one checkpoint, begin to committed",
        statistics.median(fenced[1] for fenced, _ in pairs) * 1_000,
        "ms",
        peer="the same without transactions",
        peer_value=statistics.median(plain[1] for _, plain in pairs) * 1_000,
        better="lower",
        note="mean of a run, median of the runs",
    )


def _pair(first: Worker, n: int, stream: ActivityStream) -> tuple[tuple[float, float], tuple[float, float]]:
    """Fenced and plain; which of them runs first changes from pair to pair."""
    runs = [("fenced", TRANSACTIONAL), ("plain", PLAIN)]
    found = {
        name: _once(first, f"{name}{n}", command, stream) for name, command in (runs if n % 2 else runs[::-1])
    }
    return found["fenced"], found["plain"]


def _once(first: Worker, namespace: str, command: list[str], stream: ActivityStream) -> tuple[float, float]:
    """One run from an empty state: activities per CPU-second after warm-up, mean seconds of a checkpoint."""
    settings = {name: first.environment[name] for name in ("FEEDRANK_CLOCK", "RANK_BUDGET_PER_S")}
    bootstrap, redis_url = first.environment["KAFKA_BOOTSTRAP_SERVERS"], first.environment["REDIS_URL"]
    worker = Worker(
        first.directory / namespace, bootstrap, redis_url, namespace, "avro", command=command, **settings
    )
    worker.create_topics(stream.partitions)
    process = worker.start(namespace)
    try:
        worker.follow(stream.activities, OURS_S_MAX)
        after = worker.measured()
        process.outcome.cpu_s = cpu_s(process.pid)
    finally:
        process.stop()
    return process.outcome.per_cpu_second(stream.activities // WARM_UP_SHARE), _checkpoint_s(after)


def _checkpoint_s(scrape: Scrape) -> float:
    count = scrape.total("stage_seconds_count", stage="checkpoint")
    return scrape.total("stage_seconds_sum", stage="checkpoint") / max(count, 1.0)
