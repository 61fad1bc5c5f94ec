"""What a worker's observer tells operators of checkpoints and of partitions that come and go."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from streams.health import Health
from streams.loop_watch import Progress
from streams.metrics import Metrics
from streams.observe import REVOKED, Outcome
from tests.oracle.made_up import Size, Stream
from tests.topologies.in_process import LocalWorker, Sizes, run
from tests.topologies.outside import ITEMS, USERS, Board, Heads, Topics
from tests.topologies.test_in_process import policy
from topologies.heartbeat import COUNT_ROWS_MS
from topologies.observing import ASSIGNMENT, WorkerObserver
from topologies.row_counts import count_users
from topologies.user_rows import UserRows

PLACE = ("feedrank.activities", 3)


def observer() -> tuple[WorkerObserver, Metrics]:
    metrics = Metrics()
    return WorkerObserver(metrics, Progress(), Health()), metrics


def age(metrics: Metrics) -> float:
    """When the partition was last committed, seconds since 1970; 0.0 = never."""
    return metrics.value("feedrank_checkpoint_timestamp_seconds", topic=PLACE[0], partition="3")


def test_a_worker_whose_partitions_were_taken_back_is_not_ready_until_the_next_assignment() -> None:
    health = Health()
    one = WorkerObserver(Metrics(), Progress(), health)
    one.assigned(8)
    assert ASSIGNMENT not in health.reasons
    one.lost(*PLACE, "fenced")
    assert ASSIGNMENT not in health.reasons
    one.lost(*PLACE, REVOKED)
    assert ASSIGNMENT in health.reasons
    one.assigned(0)
    assert ASSIGNMENT not in health.reasons


def test_a_commit_counts_its_rows_and_the_time() -> None:
    one, metrics = observer()
    before_s = time.time()
    one.checkpointed(*PLACE, 7, 100, 0.01, "committed")
    assert before_s <= age(metrics) <= time.time()
    assert metrics.value("feedrank_checkpoint_rows_total", topic=PLACE[0]) == 7


@pytest.mark.parametrize("outcome", ["fenced", "unknown"])
def test_a_checkpoint_that_failed_is_no_commit(outcome: Outcome) -> None:
    one, metrics = observer()
    one.checkpointed(*PLACE, 7, 100, 0.01, outcome)
    assert (age(metrics), metrics.value("feedrank_checkpoint_rows_total", topic=PLACE[0])) == (0.0, 0.0)
    assert metrics.value("feedrank_checkpoints_total", topic=PLACE[0], outcome=outcome) == 1


def applied() -> LocalWorker:
    """One that has applied a stream on one partition, and its item statistics in part."""
    topics = Topics(1)
    for event in Stream(4, Size(activities=300, items=60, users=30, quiet=3)).events:
        topics.produce(event)  # type: ignore[arg-type]
    one = LocalWorker(topics, policy(), Sizes(users=12), Heads(), Board(), {})
    one.tail_items(1_000)
    for job in (USERS, ITEMS):
        one.open((job, 0))
    while one.users.shards[0].lag:
        one.ingest((USERS, 0), 5)
    run(one.users.shards[0].flush_now())
    one.ingest((ITEMS, 0), 1)
    return one


def counted(one: LocalWorker, name: str, topic: str, label: str) -> dict[str, float]:
    """Values of a gauge of one topic, by one label."""
    families = one.emission.metrics.registry.collect()
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {s.labels[label]: s.value for s in samples if s.labels["topic"] == topic}


def test_rows_in_memory_and_rows_that_wait_are_counted_by_table_and_state() -> None:
    one = applied()
    one.heartbeat.beat(0)
    rows, items = one.users.shards[0].state.rows, one.items.shards[0].state
    users = {"users": len(rows.arena), "seen": rows.seen.pages, "graph": len(rows.graphs)}
    assert all(users.values())
    assert counted(one, "feedrank_rows", USERS, "table") == users
    assert counted(one, "feedrank_rows", ITEMS, "table") == {"items": len(items.arena)}
    waiting = {"dirty": 0, "unflushed": rows.back.pending}
    assert counted(one, "feedrank_pending_rows", USERS, "state") == waiting
    waiting = {"dirty": len(items.arena), "unflushed": 0}
    assert counted(one, "feedrank_pending_rows", ITEMS, "state") == waiting


def test_rows_are_counted_once_a_second() -> None:
    one = applied()
    arena = one.users.shards[0].state.rows.arena
    dirty = []
    for now_ms in (0, COUNT_ROWS_MS - 1, COUNT_ROWS_MS):
        one.heartbeat.beat(now_ms)
        dirty.append(counted(one, "feedrank_pending_rows", USERS, "state")["dirty"])
        arena.touch(np.arange(3))
    assert dirty == [0, 0, 3]


def test_changed_rows_of_all_tables_wait_for_the_next_checkpoint() -> None:
    metrics, rows, none = Metrics(), UserRows(100, resident=True), np.zeros(2, np.int64)
    slots = rows.locate([b"ann", b"bob"])[0]
    rows.arena.touch(slots)
    rows.seen.apply(rows.arena.rows, slots, np.array([1, 2], np.uint64), none, none.astype(np.bool_))
    rows.graphs.dirty.add(0)
    shard: Any = SimpleNamespace(topic="t", partition=0, state=SimpleNamespace(rows=rows))
    count_users(metrics, shard)
    assert metrics.value("feedrank_pending_rows", topic="t", partition="0", state="dirty") == 2 + 2 + 1


def test_partitions_that_are_not_fetched_are_counted() -> None:
    one, metrics = observer()
    one.paused(*PLACE, True)
    one.paused(PLACE[0], 4, True)
    one.paused(*PLACE, False)
    assert metrics.value("feedrank_paused_partitions", topic=PLACE[0]) == 1
