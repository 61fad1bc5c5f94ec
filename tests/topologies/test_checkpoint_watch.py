"""Whose checkpoints do not come to an end is in /readyz, and ends the worker only where topics are why."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from streams.errors import ExitCode, OperatorError
from streams.health import Health
from topologies.checkpoint_watch import PART, WAITS_S_MAX, CheckpointWatch
from topologies.observing import ASSIGNMENT

WRONG = OperatorError("the topic is missing", ExitCode.TOPICS_WRONG)


class Scene:
    """A watch, what waits, and what it said. `wrong`: what the brokers would answer."""

    def __init__(self) -> None:
        self.waiting: dict[int, float] = {}
        self.wrong: OperatorError | None = None
        self.failures: list[BaseException] = []
        self.asked = 0
        table: Any = SimpleNamespace(
            job=SimpleNamespace(source="activities"), all=SimpleNamespace(waiting=lambda: self.waiting)
        )
        health = Health()
        self.reasons = health.reasons
        self.watch = CheckpointWatch([table], health, self._topics_wrong, self.failures.append)

    async def _topics_wrong(self) -> OperatorError | None:
        self.asked += 1
        return self.wrong

    def look(self, now_s: float) -> None:
        """Look, and ask if there is a reason to."""
        self.watch.look(now_s)
        asyncio.run(self.watch.ask())


def test_a_shard_that_waits_for_long_is_named_until_it_commits() -> None:
    scene = Scene()
    scene.waiting = {3: 100.0, 4: 104.0}
    scene.look(100.0 + WAITS_S_MAX)
    assert (PART in scene.reasons, scene.asked) == (False, 0)
    scene.look(107.0)
    assert "of activities partition 3 for 7 s;" in scene.reasons[PART]
    scene.waiting = {}
    scene.look(108.0)
    assert (PART in scene.reasons, scene.asked) == (False, 1)
    assert scene.failures == []


def test_topics_that_are_wrong_end_the_worker() -> None:
    scene = Scene()
    scene.waiting, scene.wrong = {3: 100.0}, WRONG
    scene.look(101.0)
    assert scene.failures == []
    scene.look(110.0)
    assert scene.failures == [WRONG]


def test_so_they_do_where_the_group_hands_out_no_partitions() -> None:
    scene = Scene()
    scene.wrong = WRONG
    scene.reasons[ASSIGNMENT] = "the group has not said yet"
    scene.look(100.0)
    assert scene.failures == [WRONG]
