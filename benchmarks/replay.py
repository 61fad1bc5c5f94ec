"""Benchmark `replay`: activities per CPU-second of a replay, beside the live worker on the same topic.

State only, in one process and in two; then feeds of a share of the users.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.figure import Figure
from benchmarks.ingest import WARM_UP_SHARE, Track, ours, track
from benchmarks.measure import BenchmarkFailed
from benchmarks.place import Place
from benchmarks.stream import ActivityStream
from benchmarks.worker import Worker, feedrank, source_path

REPLAY_S_MAX = 1_200.0
STATE_GOAL = 250_000.0
TWO_GOAL = 1.8
CHECKPOINT_GOAL = 5.0
RANKED_USERS = "2%"


@dataclass(frozen=True, slots=True)
class Took:
    """What a replay took: CPU seconds by phase (all processes), of checkpoints, of these the last ones (they
    write the result), wall of rows, peak MB."""

    cpu_s: dict[str, float]
    checkpoint_s: float
    result_s: float
    rows_wall_s: float
    peak_mb: float
    feeds: int

    @property
    def rows_s(self) -> float:
        """CPU seconds of user rows and item rows."""
        return self.cpu_s["users"] + self.cpu_s["items"]


def replayed(where: Track, worker: Worker, name: str, jobs: int, users: str) -> Took:
    """Define a replay of the whole topic and carry it out in a process of its own; raises BenchmarkFailed."""
    directory = where.directory / "shadows"
    environment = worker.environment | source_path() | {"FEEDRANK_DATA_DIR": str(directory)}
    log = where.directory / f"{name}.txt"
    shadow = directory / name
    log.parent.mkdir(parents=True, exist_ok=True)
    feeds = ["--feeds", "files", "--users", users] if users else ["--feeds", "none"]
    with log.open("wb") as out:
        command = feedrank("replay", "--into", name, *feeds, "--submit")
        defined = subprocess.run(command, env=_with(environment), stdout=out, stderr=out, check=False)
        if defined.returncode:
            raise BenchmarkFailed("`feedrank replay` failed", log)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.replay_run", str(shadow), str(jobs)],
            env=_with(environment),
            stdout=subprocess.PIPE,
            stderr=out,
            timeout=REPLAY_S_MAX,
            check=False,
        )
    if done.returncode:
        raise BenchmarkFailed(f"the replay {name} failed", log)
    return Took(**json.loads(done.stdout.splitlines()[-1]))


def _with(environment: dict[str, str]) -> dict[str, str]:
    import os

    return os.environ | environment


def user_rows_of(environment: dict[str, str], namespace: str, *arguments: str) -> str:
    """The table `users` of a digest. (The live worker is stopped before its item rows have all deltas.)"""
    command = feedrank("digest", namespace, *arguments)
    done = subprocess.run(command, env=_with(environment), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def run(place: Place) -> Iterator[Figure]:
    """The live worker, then replays of the same topic."""
    stream = ActivityStream(place.activities)
    with track(place, "avro", stream, "replay") as (where, worker):
        live = ours(where, worker, "live worker")
        rate = live.per_cpu_second(stream.activities // WARM_UP_SHARE)
        rows = user_rows_of(worker.environment | source_path(), "bench", "--rows", "topics")
        one = replayed(where, worker, "one", 1, "")
        two = replayed(where, worker, "two", 2, "")
        ranked = replayed(where, worker, "ranked", 1, RANKED_USERS)
        shadows = worker.environment | source_path() | {"FEEDRANK_DATA_DIR": str(where.directory / "shadows")}
        same = all(user_rows_of(shadows, name) == rows for name in ("one", "two", "ranked"))
    equal = "user rows equal to the live ones" if same else "USER ROWS DIFFER"
    note = f"{stream.activities:,} activities, {equal}"
    yield _state("one process", stream, one, rate, note)
    yield _state("two processes", stream, two, rate, note)
    yield Figure(
        "replay",
        "two processes, rows, time of one over time of two",
        one.rows_wall_s / two.rows_wall_s,
        "times",
        goal=TWO_GOAL,
        note=f"{one.rows_wall_s:.1f} s and {two.rows_wall_s:.1f} s on the wall",
    )
    yield Figure(
        "replay",
        "checkpoints on the way",
        100 * (one.checkpoint_s - one.result_s) / one.rows_s,
        "% of CPU",
        goal=CHECKPOINT_GOAL,
        better="lower",
        note="what a replay costs for losing little when it is killed",
    )
    yield Figure(
        "replay",
        "the result written, once",
        100 * one.result_s / one.rows_s,
        "% of CPU",
        better="lower",
        note="the last checkpoint of each partition: every row that is not on disk yet",
    )
    yield from _ranked(stream, ranked)


def _state(subject: str, stream: ActivityStream, took: Took, live: float, note: str) -> Figure:
    return Figure(
        "replay",
        f"state only, {subject}",
        stream.activities / took.rows_s,
        "activities/CPU-s",
        peer="live worker",
        peer_value=live,
        goal=STATE_GOAL,
        cpu_s=took.rows_s,
        peak_mb=took.peak_mb,
        note=f"{note}; items loaded, rows on disk",
    )


def _ranked(stream: ActivityStream, took: Took) -> Iterator[Figure]:
    feeds_s: Any = took.cpu_s["features"] + took.cpu_s["feeds"]
    yield Figure(
        "replay",
        f"with ranking of {RANKED_USERS} of the users",
        stream.activities / (took.rows_s + feeds_s),
        "activities/CPU-s",
        cpu_s=took.rows_s + feeds_s,
        peak_mb=took.peak_mb,
        note=f"feeds {feeds_s:.1f} CPU-s",
    )
