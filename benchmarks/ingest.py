"""Benchmark `ingest`: activities per CPU-second, ours beside Kafka Streams, Quix Streams and ordinary Faust.

All read the same topic of the same broker, one after the other. The peers keep counts per user and verb in
5-minute windows; feedrank keeps whole user rows, sends item deltas and takes transactional checkpoints.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import brute, our_rows
from benchmarks.figure import Figure
from benchmarks.measure import Contender, Outcome
from benchmarks.place import Place, running
from benchmarks.stream import VERBS, ActivityStream, produce_activities, produce_items
from benchmarks.worker import Worker, source_path
from tests.services import LIBS, ROOT, kafka_classpath, start_kafka, start_redis
from wire.names import ACTIVITIES, ITEMS, Namespace

JAVA_SOURCES = ROOT / "benchmarks" / "peers" / "java"
JAVA_CLASSES = ROOT / "build" / "bench" / "classes"
WARM_UP_SHARE = 3
"""The first 1/3 of the activities is warm-up for everyone."""
FAUST_ACTIVITIES = 60_000
PEER_S_MAX = 900.0
OURS_S_MAX = 300.0
AVRO_GOAL = 250_000.0
JSON_GOAL = 200_000.0
RATIO_GOALS = {"kafka-streams": 3.0, "quix": 10.0, "faust": 100.0}


@dataclass(frozen=True, slots=True)
class Track:
    """Where one run takes place: a broker, a topic with the stream in it, a directory for state and logs."""

    bootstrap: str
    topic: str
    stream: ActivityStream
    directory: Path

    def fresh(self, name: str) -> tuple[Path, str]:
        """A new directory and a group id of this contender."""
        group = f"{name}-{uuid.uuid4().hex[:8]}"
        directory = self.directory / group
        directory.mkdir(parents=True)
        return directory, group


def java(main: str, *arguments: str) -> list[str]:
    """Command of a Java peer; compiles the sources when they are newer than the classes."""
    classpath = kafka_classpath()
    sources = sorted(JAVA_SOURCES.glob("*.java"))
    built = JAVA_CLASSES / f"{main}.class"
    if not built.exists() or built.stat().st_mtime < max(s.stat().st_mtime for s in sources):
        JAVA_CLASSES.mkdir(parents=True, exist_ok=True)
        command = ["javac", "-d", str(JAVA_CLASSES), "-cp", classpath, *map(str, sources)]
        subprocess.run(command, check=True)
    log4j = f"-Dlog4j.configuration=file:{ROOT / 'tests' / 'kafka' / 'log4j.properties'}"
    return ["java", "-Xmx1g", log4j, "-cp", f"{JAVA_CLASSES}:{LIBS}/*", main, *arguments]


def kafka_streams(track: Track) -> Outcome:
    """Counts in Java, RocksDB and changelog; steady state after warm-up of the JIT."""
    directory, group = track.fresh("kstreams")
    activities = str(track.stream.activities)
    dump = directory / "dump.csv"
    arguments = (track.bootstrap, track.topic, activities, str(directory / "state"), str(dump), group)
    return _counted(track, "Kafka Streams", java("Counts", *arguments, ",".join(VERBS)), dump)


def quix(track: Track) -> Outcome:
    """Counts with Quix Streams' plain state."""
    directory, group = track.fresh("quix")
    dump = directory / "dump.csv"
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers.quix_counts"]
    command += [track.bootstrap, track.topic, str(track.stream.activities), str(directory / "state")]
    return _counted(track, "Quix Streams", [*command, str(dump), group, ",".join(VERBS)], dump)


def faust(track: Track) -> Outcome:
    """Counts with an ordinary Faust application, on the first records of each partition."""
    directory, group = track.fresh("faust")
    dump = directory / "dump.csv"
    partitions = track.stream.partitions
    share = min(FAUST_ACTIVITIES, track.stream.activities // 2) // partitions
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers.faust_counts"]
    command += [track.bootstrap, track.topic, str(share), str(directory / "state"), str(dump), group]
    command += [",".join(VERBS), str(partitions)]
    return _counted(track, "ordinary Faust", command, dump, share)


PEERS: dict[str, Callable[[Track], Outcome]] = {
    "kafka-streams": kafka_streams,
    "quix": quix,
    "faust": faust,
}


def _counted(
    track: Track, subject: str, command: list[str], dump: Path, per_partition: int | None = None
) -> Outcome:
    """Run a peer to its end and compare its dump with brute force."""
    contender = Contender(subject, command, dump.with_name("log.txt"), source_path())
    try:
        outcome = contender.wait(PEER_S_MAX)
    finally:
        contender.stop()
    contender.printed_marks()
    chosen = None if per_partition is None else track.stream.first(per_partition)
    outcome.wrong_cells = brute.differences(brute.expected(track.stream, chosen), brute.read_dump(dump))
    return outcome


def ours(track: Track, worker: Worker, subject: str) -> Outcome:
    """A `feedrank worker` from an empty state to the end of the topic, then its rows beside brute force."""
    names = Namespace(worker.environment["FEEDRANK_NAMESPACE"])
    process = worker.start(subject)
    try:
        worker.follow(track.stream.activities, OURS_S_MAX)
    finally:
        process.stop()
    right = our_rows.expected_by_role(track.stream)
    found = our_rows.found_by_role(track.bootstrap, names.users_changelog)
    process.outcome.wrong_cells = brute.differences(right, found)
    return process.outcome


@contextmanager
def track(
    place: Place, kind: str, stream: ActivityStream, name: str = "ingest"
) -> Iterator[tuple[Track, Worker]]:
    """A broker with the stream and its items on it, a Redis, and a worker that is not started yet.

    Ranking is turned down to one feed per second: its cost has a benchmark of its own.
    """
    directory = place.directory / f"{name}-{kind}"
    with ExitStack() as servers:
        broker = servers.enter_context(running(start_kafka(directory / "kafka")))
        redis = servers.enter_context(running(start_redis(directory / "redis")))
        worker = Worker(
            directory / "worker",
            broker.bootstrap,
            redis.url,
            "bench",
            kind,
            FEEDRANK_CLOCK="stream",
            RANK_BUDGET_PER_S="1",
        )
        worker.create_topics(stream.partitions)
        produce_items(broker.bootstrap, ITEMS, stream, kind)
        produce_activities(broker.bootstrap, ACTIVITIES, stream, kind)
        yield Track(broker.bootstrap, ACTIVITIES, stream, directory / "run"), worker


def run(place: Place) -> Iterator[Figure]:
    """Ours with Avro; then ours with JSON and every peer on the same topic."""
    stream = ActivityStream(place.activities)
    with track(place, "avro", stream) as (where, worker):
        yield figure(ours(where, worker, "feedrank, Avro"), stream, goal=AVRO_GOAL)
    with track(place, "json", stream) as (where, worker):
        mine = ours(where, worker, "feedrank, JSON")
        yield figure(mine, stream, goal=JSON_GOAL)
        for name, goal in RATIO_GOALS.items():
            if name in place.peers:
                yield against(mine, PEERS[name](where), stream, goal)


def figure(outcome: Outcome, stream: ActivityStream, goal: float | None = None) -> Figure:
    """Activities per CPU-second of one contender after warm-up."""
    rate = outcome.per_cpu_second(stream.activities // WARM_UP_SHARE)
    return Figure(
        "ingest",
        outcome.subject,
        rate,
        "activities/CPU-s",
        goal=goal,
        cpu_s=outcome.cpu_s,
        peak_mb=outcome.peak_mb,
        note=_note(outcome, stream.activities),
    )


def against(mine: Outcome, peer: Outcome, stream: ActivityStream, goal: float) -> Figure:
    """Ours beside a peer; CPU and memory are the peer's, as ours have a line of their own."""
    warm_up = stream.activities // WARM_UP_SHARE
    last = peer.marks[-1].processed
    return Figure(
        "ingest",
        mine.subject,
        mine.per_cpu_second(warm_up),
        "activities/CPU-s",
        peer=peer.subject,
        peer_value=peer.per_cpu_second(last // WARM_UP_SHARE),
        goal=goal,
        goal_on="ratio",
        cpu_s=peer.cpu_s,
        peak_mb=peer.peak_mb,
        note="peer: " + _note(peer, last),
    )


def _note(outcome: Outcome, activities: int) -> str:
    checked = "counts exact" if outcome.wrong_cells == 0 else f"{outcome.wrong_cells} COUNTS WRONG"
    return f"{activities:,} activities, {checked}, {activities / outcome.cpu_s:,.0f}/CPU-s with its start"
