"""Streams through a real Kafka, RocksDB, Redis: whoever works them off, the bytes are the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from itertools import islice
from pathlib import Path

import pytest

from feedrank.load import uboot
from feedrank.load.events import Event, ItemEvent
from tests.integration.conftest import ACTIVITIES, BEGAN_MS, ITEMS, PEOPLE, activities, drained, lags
from tests.integration.job import Job
from tests.waiting import until
from wire.names import SURFACES

CUT = 24_000
HELD_BACK = 2_000
PARTITIONS = 4
OFTEN = {"CHECKPOINT_MS": "50"}
IN_SMALL_STEPS = {"INGEST_RECORDS_MAX": "10"}
"""A worker that is to be killed in the middle."""


@pytest.fixture(scope="module")
def stream(data_dir: Path) -> list[Event]:
    """The first events of the real stream, follows included."""
    folder = data_dir / "uboot"
    events = uboot.events(folder / "social_events.jsonl.gz", follows=folder / "derived_follows.tsv.gz")
    return list(islice(events, CUT))


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """The bundled policy with users active for a year and items for ten, so that old data has many feeds."""
    text = files("models").joinpath("default_policy.toml").read_text()
    text = text.replace("active_days = 14", "active_days = 365").replace(
        "item_age_days_max = 60", "item_age_days_max = 3650"
    )
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return path


@pytest.fixture
def job(public_kafka: str, redis_url: str, tmp_path: Path, namespace: str) -> Iterator[Job]:
    with Job(public_kafka, redis_url, tmp_path, f"{namespace}-one") as one:
        one.create_topics(PARTITIONS)
        yield one


@contextmanager
def beside(job: Job, namespace: str) -> Iterator[Job]:
    """Another namespace on the same public topics."""
    directory = job.directory / namespace
    directory.mkdir()
    with Job(job.bootstrap, job.redis_url, directory, namespace, dict(job.settings)) as other:
        other.create_topics(PARTITIONS)
        yield other


def same_rows_and_feeds(one: Job, two: Job, as_of_ms: int) -> int:
    """Both are settled. How many feeds there are."""
    for changelog in ("users_changelog", "item_rows_changelog"):
        assert two.rows(getattr(two.names, changelog)) == one.rows(getattr(one.names, changelog))
    found = [job.settled_feeds(surface, as_of_ms) for job in (one, two) for surface in SURFACES]
    assert found[:2] == found[2:]
    return sum(map(len, found[:2]))


@pytest.mark.kafka
def test_two_workers_settle_to_the_bytes_of_one_worker(job: Job, namespace: str) -> None:
    acts = activities(ACTIVITIES, seed=0)
    items = [ItemEvent(f"i{n}", f"author-{n % 7}", BEGAN_MS, BEGAN_MS, ("tea",)) for n in range(ITEMS)]
    as_of_ms = max(event.time_ms for event in acts) + 1_000
    with beside(job, f"{namespace}-two") as two:
        alone = job.start_worker()
        both = two.start_two(PARTITIONS)
        job.load([*items, *acts])
        for one in (job, two):
            one.settle(as_of_ms)
        assert alone.owns() == set(range(PARTITIONS))
        halves = [PARTITIONS // 2] * 2
        until(lambda: [len(worker.owns()) for worker in both] == halves, "each has its half")
        applied = [worker.applied() for worker in both]
        assert min(applied) > 0
        assert sum(applied) >= ACTIVITIES  # more where a worker that was slow to answer had to begin again
        assert same_rows_and_feeds(job, two, as_of_ms) == len(SURFACES) * PEOPLE


@pytest.mark.kafka
def test_two_workers_with_a_kill_settle_to_the_bytes_of_one_worker(
    job: Job, stream: list[Event], policy: Path, namespace: str
) -> None:
    """The one that is killed is in the middle for certain: the last events come while it is frozen."""
    job.settings["FEEDRANK_POLICY"] = str(policy)
    as_of_ms = max(event.time_ms for event in stream) + 1_000
    sent = job.load(stream[:-HELD_BACK]).sent.activities
    with beside(job, f"{namespace}-two") as two:
        first, second = two.start_two(PARTITIONS, IN_SMALL_STEPS, **OFTEN)
        until(lambda: min(first.applied(), second.applied()) > 0, "both have applied")
        first.freeze()
        sent += job.load(stream[-HELD_BACK:]).sent.activities
        first.kill()
        assert not drained(two), "it was not in the middle"
        third = two.start_worker(**OFTEN)
        until(lambda: len(third.owns()) == PARTITIONS // 2, "a third one takes its place", lambda: lags(two))
        two.settle(as_of_ms)
        assert second.stop() == 0

        worker = job.start_worker()
        job.settle(as_of_ms)
        assert worker.stop() == 0
        assert same_rows_and_feeds(job, two, as_of_ms) > 300
    ledger = [job.position(p) for p in range(PARTITIONS)]
    assert sum(one["applied"] + one["duplicates"] + one["withdrawn"] + one["dead"] for one in ledger) == sent
