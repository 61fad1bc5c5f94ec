"""One broker for all misuse and outage tests, and a worker on it that nothing is done to: the comparison.

    def test_something(calm: Job, job: Job): ...

Both read the same public topics; `job` is a namespace of the test's own, with topics and without workers.
"""

from __future__ import annotations

import os
import random
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import orjson
import pytest

from feedrank.load.events import ActivityEvent, Event, ItemEvent
from streams.errors import OperatorError
from streams.topics_admin import TopicsAdmin
from tests.conftest import with_public_topics
from tests.integration.job import Job, Worker
from tests.waiting import until

PARTITIONS = 4
ITEMS = 40
PEOPLE = 60
ACTIVITIES = 3_000
BEGAN_MS = 1_780_000_000_000
PERSON = "private-person"
"""Begins every user id, so that a log that tells one is found."""
LINES_MAX = 80
"""Of a worker's log in any test here; most of them are a line per shard that opens or closes."""


def activities(count: int, seed: int) -> list[Event]:
    """So many acts of a few people, in the order of time."""
    chance = random.Random(seed)
    verbs = ["impression", "click", "like", "comment", "share"]
    return [
        ActivityEvent(
            f"{seed}-{n}",
            f"{PERSON}-{chance.randrange(PEOPLE)}",
            chance.choice(verbs),
            f"i{chance.randrange(ITEMS)}",
            BEGAN_MS + seed * 600_000 + n * 100,
        )
        for n in range(count)
    ]


def lags(job: Job) -> list[tuple[int, int]]:
    """Of each partition of activities: the committed offset and what is left; none while Kafka is away."""
    try:
        return [(one.committed, one.records) for one in TopicsAdmin(job.kafka, job.names).lag()]
    except OperatorError:
        return []


def why_not_ready(worker: Worker) -> str:
    """What /readyz says; empty when the worker is ready or not there yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/readyz", timeout=1):
            return ""
    except urllib.error.HTTPError as answer:
        return answer.read().decode()
    except OSError:
        return ""


def drained(job: Job) -> bool:
    """Whether all activities are applied and committed."""
    found = lags(job)
    return bool(found) and all(committed >= 0 and left == 0 for committed, left in found)


def same_rows(job: Job, calm: Job) -> None:
    """User rows are those of the worker that nothing was done to, byte for byte."""
    for one, whose in ((job, "this job's worker"), (calm, "the calm worker")):
        until(lambda one=one: drained(one), f"all is committed by {whose}", lambda one=one: lags(one))  # type: ignore[misc]
    ours, theirs = (one.newest(one.names.users_changelog) for one in (job, calm))
    ledgers = [
        [orjson.loads(rows.pop(b"!position/%d" % p)) for p in range(PARTITIONS)] for rows in (ours, theirs)
    ]
    assert ours == theirs
    for name in ("position", "applied", "duplicates", "withdrawn", "dead"):
        assert [one[name] for one in ledgers[0]] == [one[name] for one in ledgers[1]], name


def said(job: Job, text: str) -> int:
    """In how many log lines of all workers of this job the text stands."""
    return sum(text in line for worker in job.workers for line in worker.log.read_text().splitlines())


def metric(job: Job, line: str) -> float:
    """A metric of the newest worker, summed over its lines that begin like this."""
    found = [text for text in job.workers[-1].metrics().splitlines() if text.startswith(line)]
    return sum(float(text.rpartition(" ")[2]) for text in found)


def lent_for(fixture_name: str, config: pytest.Config) -> Literal["module", "package"]:
    """A Kafka that is given has its public topics once: other modules of this package need them too."""
    return "module" if os.environ.get("KAFKA_BOOTSTRAP_SERVERS") else "package"


@pytest.fixture(scope=lent_for)
def calm(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """A worker that nothing is done to, with items and activities before it, and a Kafka for these tests."""
    directory: Path = tmp_path_factory.mktemp("calm")
    with (
        with_public_topics(tmp_path_factory.mktemp("broker")) as bootstrap,
        Job(bootstrap, redis_url, directory, f"calm-{uuid.uuid4().hex[:12]}") as job,
    ):
        load(job)
        job.start_worker()
        yield job


def load(job: Job) -> None:
    """Topics, with items and activities in them."""
    job.create_topics(PARTITIONS)
    items = [ItemEvent(f"i{n}", f"author-{n % 7}", BEGAN_MS, BEGAN_MS, ("tea",)) for n in range(ITEMS)]
    job.load([*items, *activities(ACTIVITIES, 0)])


def logs_are_short_and_private(job: Job) -> None:
    """Whatever happened to its workers."""
    for worker in job.workers:
        text = worker.log.read_text()
        for unwanted in (PERSON, "Traceback", "aiokafka"):
            assert unwanted not in text, text
        assert len(text.splitlines()) <= LINES_MAX, text


@pytest.fixture
def job(calm: Job, redis_url: str, tmp_path: Path, namespace: str) -> Iterator[Job]:
    """A namespace of the test's own. Whatever happens to its workers, their logs stay short and private."""
    with Job(calm.bootstrap, redis_url, tmp_path, namespace) as one:
        one.create_topics(PARTITIONS)
        yield one
        logs_are_short_and_private(one)
