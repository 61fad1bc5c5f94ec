"""When a replay checkpoints: by the work done since, so that a slow machine does not checkpoint more."""

from __future__ import annotations

from typing import Any

import pytest

from streams.durable import Cut
from topologies.replay.shard import LocalShard


def test_a_checkpoint_waits_for_work_that_makes_its_cost_small(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_s = 100.0
    monkeypatch.setattr("topologies.replay.shard.time.process_time", lambda: cpu_s)

    class Unchanged:
        def cut(self, epoch: int) -> Cut:
            nonlocal cpu_s
            cpu_s += 1.0  # what it took to find out
            return Cut(1, 0, ())

    state: Any = Unchanged()
    store: Any = None
    shard: LocalShard[Any] = LocalShard("activities", 0, state, store, lambda messages: {})
    cpu_s += 4.9
    assert not shard.checkpoint_due
    cpu_s += 0.2
    assert shard.checkpoint_due
    assert shard.checkpoint() == 1.0
    assert shard.seconds == 1.0
    cpu_s += 33.0
    assert not shard.checkpoint_due, "1 s is more than 3 % of 33"
    cpu_s += 0.5
    assert shard.checkpoint_due
