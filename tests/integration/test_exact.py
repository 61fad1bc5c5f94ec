"""The real social stream through a real Kafka, RocksDB, Redis: however worked off, the bytes are the same."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from itertools import islice
from pathlib import Path

import pytest

from feedrank.load import uboot
from feedrank.load.events import Event
from tests.integration.job import Job
from tests.services import Kafka

CUT = 24_000
PARTITIONS = 4


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
def job(private_kafka: Kafka, redis_url: str, tmp_path: Path, policy: Path) -> Iterator[Job]:
    with Job(private_kafka.bootstrap, redis_url, tmp_path, "one", {"FEEDRANK_POLICY": str(policy)}) as one:
        one.create_topics(PARTITIONS)
        yield one


@pytest.mark.kafka
def test_two_workers_with_a_kill_settle_to_the_bytes_of_one_worker(
    job: Job, stream: list[Event], tmp_path: Path, policy: Path
) -> None:
    sent = job.load(stream).sent
    as_of_ms = max(event.time_ms for event in stream) + 1_000
    worker = job.start_worker()
    job.settle(as_of_ms)
    feeds = {surface: job.settled_feeds(surface, as_of_ms) for surface in ("for_you", "following")}
    assert worker.stop() == 0
    assert sum(len(feed) for feed in feeds.values()) > 300

    again = tmp_path / "again"
    again.mkdir()
    with Job(job.bootstrap, job.redis_url, again, "two", dict(job.settings)) as two:
        two.create_topics(PARTITIONS)
        first = two.start_worker(CHECKPOINT_MS="50")
        second = two.start_worker(CHECKPOINT_MS="50")
        first.kill()
        two.start_worker(CHECKPOINT_MS="50")
        two.settle(as_of_ms)
        assert second.stop() == 0
        for changelog in ("users_changelog", "item_rows_changelog"):
            assert two.rows(getattr(two.names, changelog)) == job.rows(getattr(job.names, changelog))
        for surface, expected in feeds.items():
            assert two.settled_feeds(surface, as_of_ms) == expected
    ledger = [job.position(p) for p in range(PARTITIONS)]
    assert (
        sum(one["applied"] + one["duplicates"] + one["withdrawn"] + one["dead"] for one in ledger)
        == sent.activities
    )
