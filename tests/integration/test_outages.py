"""What goes away under a running worker comes back to the same rows: Redis, the broker, the worker itself."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import redis

from tests.integration.conftest import (
    PARTITIONS,
    PEOPLE,
    activities,
    drained,
    lags,
    load,
    logs_are_short_and_private,
    metric,
    said,
    same_rows,
    why_not_ready,
)
from tests.integration.job import Job, Worker
from tests.services import Kafka, Redis, free_port, start_redis
from tests.waiting import ended, slowness, until

pytestmark = pytest.mark.kafka
STOP_S_MAX = 10.0


def feeds(job: Job) -> int:
    """How many people have a feed."""
    with redis.Redis.from_url(job.redis_url) as client:
        return sum(1 for _ in client.scan_iter(match=f"feed:{job.namespace}:for_you:{{*}}", count=1_000))


def stop(worker: Worker) -> None:
    """SIGTERM: in time, with code 0."""
    worker.process.terminate()
    worker.thaw()
    code, seconds = ended(worker.process)
    assert code == 0
    assert seconds < STOP_S_MAX * slowness()


def everybody_has_a_feed(job: Job) -> None:
    until(lambda: feeds(job) == PEOPLE, "everybody has a feed", lambda: feeds(job))


def all_is_applied(job: Job) -> None:
    until(lambda: drained(job), "all is applied and committed", lambda: lags(job))


def test_without_redis_a_worker_starts_ingests_and_says_so_once(calm: Job, job: Job, tmp_path: Path) -> None:
    port = free_port()
    job.redis_url = f"redis://:hush-hush@127.0.0.1:{port}/0"
    worker = job.launch()
    all_is_applied(job)
    until(lambda: "redis: " in why_not_ready(worker), "/readyz names Redis")
    assert f"127.0.0.1:{port}" in why_not_ready(worker)
    time.sleep(2.5)  # what is tried every second would be told again by now
    assert said(job, "Redis does not answer; ingest goes on, feeds wait") == 1

    server = start_redis(tmp_path / "redis", port)
    try:
        with redis.Redis(port=port) as client:
            client.config_set("requirepass", "hush-hush")
        until(worker.ready, "ready with Redis")
        everybody_has_a_feed(job)
        assert said(job, "Redis answers again") == 1
        assert said(job, "hush-hush") == 0
        same_rows(job, calm)
        stop(worker)
    finally:
        server.kill()


def test_redis_that_goes_away_and_comes_back_with_and_without_its_data(
    calm: Job, job: Job, private_redis: Redis
) -> None:
    job.redis_url = private_redis.url
    worker = job.start_worker(REDIS_TIMEOUT_MS="3000")
    everybody_has_a_feed(job)

    os.kill(private_redis.pid, signal.SIGSTOP)
    job.load(activities(200, seed=1))
    until(lambda: "redis: " in why_not_ready(worker), "/readyz names Redis")
    all_is_applied(job)
    os.kill(private_redis.pid, signal.SIGCONT)
    until(worker.ready, "ready again")

    private_redis.kill()
    job.load(activities(200, seed=2))
    until(lambda: "redis: " in why_not_ready(worker), "/readyz names Redis")
    assert metric(job, "feedrank_redis_up") == 0
    private_redis.start()
    everybody_has_a_feed(job)
    until(worker.ready, "ready again")
    assert said(job, "Redis does not answer") == said(job, "Redis answers again") == 2
    same_rows(job, calm)

    private_redis.kill()
    job.load(activities(200, seed=3))
    until(lambda: "redis: " in why_not_ready(worker), "/readyz names Redis")
    stop(worker)  # does not wait for Redis


def test_killed_and_stopped_in_the_middle_nothing_is_lost_or_doubled(calm: Job, job: Job) -> None:
    """It is in the middle for certain: what comes while it is frozen waits for it."""
    job.load(activities(12_000, seed=4))
    small = {"INGEST_RECORDS_MAX": "10", "CHECKPOINT_MS": "200"}
    for end, seed, session_ms in ((Worker.kill, 11, "6000"), (stop, 12, "30000")):  # the second one wakes up
        data = str(job.directory / "data")
        worker = job.start_worker(**small, FEEDRANK_DATA_DIR=data, SESSION_TIMEOUT_MS=session_ms)
        until(lambda worker=worker: worker.applied() > 100, "in the middle")  # type: ignore[misc]
        worker.freeze()
        job.load(activities(4_000, seed))
        end(worker)
        assert not drained(job), "it was not in the middle"
    worker = job.start_worker(FEEDRANK_DATA_DIR=str(job.directory / "data"))
    same_rows(job, calm)
    stop(worker)


def test_a_frozen_worker_that_wakes_up_is_fenced_and_goes_on(calm: Job, job: Job) -> None:
    job.settings["SESSION_TIMEOUT_MS"] = "3000"
    frozen = job.start_worker()
    all_is_applied(job)
    job.load(activities(500, seed=5))
    frozen.freeze()
    other = job.start_worker()
    same_rows(job, calm)

    frozen.thaw()
    job.load(activities(500, seed=6))
    until(lambda: frozen.ready() and other.ready(), "both at work")
    same_rows(job, calm)
    for worker in (frozen, other):
        stop(worker)


def test_a_broker_that_restarts_is_waited_for_and_told_once(
    private_kafka: Kafka, redis_url: str, tmp_path: Path, namespace: str
) -> None:
    with Job(private_kafka.bootstrap, redis_url, tmp_path, namespace) as job:
        load(job)
        worker = job.start_worker()
        all_is_applied(job)
        private_kafka.kill()
        until(lambda: "kafka: " in why_not_ready(worker), "/readyz names Kafka")
        assert job.bootstrap in why_not_ready(worker)
        lines = len(worker.log.read_text().splitlines())
        private_kafka.start()
        job.load(activities(300, seed=7))
        until(worker.ready, "ready again")
        (tmp_path / "calm").mkdir()
        with Job(job.bootstrap, redis_url, tmp_path / "calm", f"{namespace}-calm") as calm:
            calm.create_topics(PARTITIONS)
            calm.start_worker()
            same_rows(job, calm)
        assert said(job, "has not answered for") == said(job, "Kafka answers again") == 1
        assert lines < 40
        stop(worker)
        logs_are_short_and_private(job)
