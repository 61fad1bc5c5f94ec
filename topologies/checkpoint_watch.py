"""Tells whose checkpoints do not come to an end (2, 4), in /readyz, and ends the worker when topics are why.

A topic that is deleted under a worker looks like a leader that is away: its client waits, for as long as a
transaction may take, and once more when the shard was opened again. Where it is a source, the group takes all
partitions back and hands out none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from streams.errors import OperatorError
from streams.health import Health
from streams.transport import ShardTable
from topologies.observing import ASSIGNMENT

LOOK_EVERY_S = 1.0
WAITS_S_MAX = 5.0
"""A checkpoint takes a fraction of a second."""
ASK_EVERY_S = 5.0
PART = "checkpoints"


@dataclass(slots=True)
class CheckpointWatch:
    """`topics_wrong` asks the brokers; what it finds goes to `fail`, which ends the worker."""

    tables: Iterable[ShardTable[Any]]
    health: Health
    topics_wrong: Callable[[], Awaitable[OperatorError | None]]
    fail: Callable[[BaseException], None]

    async def run(self) -> None:
        """Look every second, for ever. Who asks may wait for an answer; who looks does not."""
        await asyncio.gather(self._look(), self._ask())

    async def _look(self) -> None:
        while True:
            self.look(time.monotonic())
            await asyncio.sleep(LOOK_EVERY_S)

    async def _ask(self) -> None:
        while True:
            await self.ask()
            await asyncio.sleep(ASK_EVERY_S)

    def look(self, now_s: float) -> None:
        """Say who waits at `now_s` of the clock that checkpoints wait by."""
        waiting = {
            f"{table.job.source} partition {partition}": now_s - since_s
            for table in self.tables
            for partition, since_s in table.all.waiting().items()
            if now_s - since_s > WAITS_S_MAX
        }
        if not waiting:
            self.health.ready(PART)
            return
        named = ", ".join(f"{shard} for {waits_s:.0f} s" for shard, waits_s in sorted(waiting.items()))
        self.health.not_ready(PART, f"nothing could be committed of {named}; see the log, and the brokers'")

    async def ask(self) -> None:
        """While a shard waits, or the worker for its shards: whether topics are why."""
        waits = {PART, ASSIGNMENT} & self.health.reasons.keys()
        if waits and (error := await self.topics_wrong()):
            self.fail(error)
