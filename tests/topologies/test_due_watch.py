"""A full due queue is said: in metrics by why, and in the log when it begins and when it is over."""

from __future__ import annotations

import asyncio
import logging

import pytest

from models.due import DueQueue, Reason
from models.verbs import Role
from streams.metrics import Metrics
from tests.topologies.test_emission import rested, signal, worker
from tests.waiting import GUARD_S
from topologies.due_watch import OVER_MS, WHYS, DueWatch


def dropped(metrics: Metrics) -> dict[str, float]:
    return {why: metrics.value("feedrank_due_dropped_total", why=why) for why in WHYS}


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.levelname for one in caplog.records if one.name.endswith("due_watch")]


def test_whom_a_full_queue_drops_is_counted_by_why() -> None:
    one = rested(worker())
    one.emission.due = DueQueue(users_max=2)
    shard = one.users.shards[0]
    users = list(shard.state.rows.arena.ids)[:5]
    one.emission.mark(0, users[:2], Reason.STALE, [0, 0])
    assert dropped(one.emission.metrics) == {"displaced": 0, "refused": 0, "refused_own": 0}
    one.emission.mark(0, users[2:3], Reason.STALE, [0])
    one.emission.signalled(shard, signal(shard, users[2:5], Role.STRONG, 1))
    one.emission.mark(0, users[:2], Reason.STALE, [0, 0])
    assert dropped(one.emission.metrics) == {"displaced": 2, "refused": 3, "refused_own": 1}


def test_it_is_said_once_when_it_begins_and_once_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    queue: DueQueue[bytes] = DueQueue(users_max=1)
    watch = DueWatch(Metrics())
    with caplog.at_level(logging.INFO):
        watch.look(queue, 0)
        assert said(caplog) == []
        for now_ms in range(0, 3 * OVER_MS, OVER_MS // 2):
            queue.mark(b"%d" % now_ms, Reason.STALE, now_ms, now_ms)
            watch.look(queue, now_ms)
            watch.look(queue, now_ms + OVER_MS // 2 - 1)
        assert said(caplog) == ["WARNING"]
        last_ms = 3 * OVER_MS - OVER_MS // 2
        watch.look(queue, last_ms + OVER_MS - 1)
        assert said(caplog) == ["WARNING"]
        watch.look(queue, last_ms + OVER_MS)
        watch.look(queue, last_ms + 9 * OVER_MS)
        assert said(caplog) == ["WARNING", "INFO"]
        queue.mark(b"again", Reason.STALE, 0, 0)
        watch.look(queue, last_ms + 10 * OVER_MS)
    assert said(caplog) == ["WARNING", "INFO", "WARNING"]


def test_that_it_is_over_is_said_also_while_nobody_becomes_due(monkeypatch: pytest.MonkeyPatch) -> None:
    one = rested(worker())
    looks = []
    monkeypatch.setattr(DueWatch, "look", lambda watch, due, now_ms: looks.append(now_ms))
    monkeypatch.setattr("topologies.emission.DUE_LOOK_S", 0)

    async def story() -> None:
        running = asyncio.create_task(one.emission.run())
        async with asyncio.timeout(GUARD_S):
            while len(looks) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0)
        running.cancel()

    asyncio.run(story())
