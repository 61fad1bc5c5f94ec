"""What a worker makes of settings and policy, without a broker."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streams.policy_file import read_policy
from streams.settings import Settings
from topologies.agents import build
from topologies.worker import Worker


def built(data: Path, monkeypatch: pytest.MonkeyPatch, policy: Any) -> Worker:
    monkeypatch.setenv("FEEDRANK_DATA_DIR", str(data))

    async def make() -> Worker:
        (worker,) = build(Settings.load(), policy, partitions=4).beside
        assert isinstance(worker, Worker)
        worker.app.consumer._thread.thread_loop.close()  # it is built with the app and never started here
        return worker

    return asyncio.run(make())


def test_the_policy_says_whose_new_items_make_nobody_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = read_policy()
    policy = replace(policy, budgets=replace(policy.budgets, fanout_followers_max=3))
    worker = built(tmp_path, monkeypatch, policy)
    followers = worker.users.job.open_state(0, None).rows.followers  # type: ignore[arg-type]
    for slot in range(3):
        followers.add(slot, [7])
    assert followers.of(7) is not None
    followers.add(3, [7])
    assert followers.of(7) is None


def test_stream_time_is_where_a_shard_stands_that_gets_no_more_activities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEEDRANK_CLOCK", "stream")
    worker = built(tmp_path, monkeypatch, read_policy())
    shard: Any = SimpleNamespace(state=SimpleNamespace(stream_ms=5_000))
    assert worker.users.job.opened is not None
    asyncio.run(worker.users.job.opened(shard))  # type: ignore[arg-type]
    assert worker.clock.as_of_ms(caught_up=True) == 5_000
