"""Benchmark `recovery`: rows per CPU-second from changelog to ready, and restart with local state.

A worker reads one activity of each of a million users, so that every user has a row; it is stopped, started
again with its state (warm), then without. Kafka Streams restores as many values of 1 KB into RocksDB.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import numpy as np
from confluent_kafka import Producer

from benchmarks.figure import Figure
from benchmarks.ingest import java, track
from benchmarks.measure import Contender, Outcome
from benchmarks.place import Place
from benchmarks.stream import ActivityStream, partition_of, user_id
from benchmarks.worker import Worker
from tests.services import create_topic

ROW_BYTES = 1_024
ROWS_GOAL = 200_000.0
RATIO_GOAL = 3.0
WARM_GOAL_S = 5.0
POLL_S = 0.02
TIME_MAX_S = 600.0


def run(place: Place) -> Iterator[Figure]:
    """Warm restart, recovery and the peer's restore."""
    stream = ActivityStream(place.users, users=place.users, once=True, verb="click")
    with track(place, "avro", stream, "recovery") as (where, worker):
        _fill(worker, stream)
        warm = _warm(worker, place.users)
        yield warm
        rows, cpu_s, wall_s, outcome = _cold(worker)
        yield Figure(
            "recovery",
            "start of the process to ready",
            rows / cpu_s,
            "rows/CPU-s",
            goal=ROWS_GOAL,
            cpu_s=cpu_s,
            peak_mb=outcome.peak_mb,
            note=f"{rows:,.0f} rows in {wall_s:.1f} s; imports, items and their statistics included",
        )
        peer = _streams(where.bootstrap, place, stream)
    theirs = peer.per_cpu_second(0)
    restored_s = max(cpu_s - warm.cpu_s, 0.01)
    yield Figure(
        "recovery",
        "rows restored, the rest of the start apart",
        rows / restored_s,
        "rows/CPU-s",
        peer=peer.subject,
        peer_value=theirs,
        goal=RATIO_GOAL,
        goal_on="ratio",
        cpu_s=peer.cpu_s,
        peak_mb=peer.peak_mb,
        note=f"ours: CPU of the line above less that of the warm restart, {restored_s:.1f} s; "
        f"peer: {place.users:,} values of {ROW_BYTES} bytes, clock from restore's start to its end",
    )


def _fill(worker: Worker, stream: ActivityStream) -> None:
    """Let the worker read everything."""
    process = worker.start("feedrank, filling")
    try:
        worker.wait_ready()
        worker.follow(stream.activities, TIME_MAX_S)
    finally:
        process.stop()


def _warm(worker: Worker, users: int) -> Figure:
    """Seconds from the start of the process to /readyz with local state."""
    started = time.monotonic()
    process = worker.start("feedrank, warm")
    try:
        cpu_s = worker.wait_ready(TIME_MAX_S, POLL_S)
        wall_s = time.monotonic() - started
        replayed = worker.measured().total("recovered_rows_total")
    finally:
        process.stop()
    note = f"{users:,} users, {replayed:,.0f} rows replayed from the changelog, {cpu_s:.1f} CPU-s"
    return Figure(
        "recovery",
        "warm restart",
        wall_s,
        "s",
        goal=WARM_GOAL_S,
        better="lower",
        cpu_s=cpu_s,
        peak_mb=process.outcome.peak_mb,
        note=note,
    )


def _cold(worker: Worker) -> tuple[float, float, float, Outcome]:
    """Rows replayed, CPU seconds and seconds until ready, without local state."""
    shutil.rmtree(worker.environment["FEEDRANK_DATA_DIR"])
    started = time.monotonic()
    process = worker.start("feedrank, recovering")
    try:
        cpu_s = worker.wait_ready(TIME_MAX_S, POLL_S)
        wall_s = time.monotonic() - started
        rows = worker.measured().total("recovered_rows_total")
    finally:
        process.stop()
    return rows, cpu_s, wall_s, process.outcome


def _streams(bootstrap: str, place: Place, stream: ActivityStream) -> Outcome:
    """Kafka Streams restoring a store of as many rows."""
    application = "restore"
    source = create_topic(bootstrap, "restore-source", stream.partitions)
    changelog = f"{application}-rows-changelog"
    create_topic(bootstrap, changelog, stream.partitions, cleanup_policy="compact")
    _produce_rows(bootstrap, changelog, stream)
    directory = place.directory / "restore"
    directory.mkdir()
    command = java("Restore", bootstrap, source, str(stream.partitions), str(directory), application)
    contender = Contender("Kafka Streams", command, directory / "log.txt")
    try:
        outcome = contender.wait(TIME_MAX_S)
    finally:
        contender.stop()
    contender.printed_marks()
    return outcome


def _produce_rows(bootstrap: str, topic: str, stream: ActivityStream) -> None:
    """One value of ROW_BYTES for each user: counters as small integers, like a row."""
    rng = np.random.default_rng(stream.seed)
    values = [rng.integers(0, 40, ROW_BYTES // 4, np.int32).tobytes() for _ in range(1_000)]
    config = {"bootstrap.servers": bootstrap, "linger.ms": 50, "batch.size": 1 << 19}
    producer = Producer(config | {"queue.buffering.max.kbytes": 1 << 19})
    for user in range(stream.users):
        key = user_id(user).encode()
        while True:
            try:
                producer.produce(topic, values[user % 1_000], key, partition_of(key, stream.partitions))
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(120)
