"""Copies on disk of the shards of other workers (before 2 and 4): whoever takes one over replays seconds of
its changelog instead of all of it.

A copy is what a worker that was stopped leaves behind: rows in RocksDB and where in the changelog they end.
So a takeover needs nothing of its own: it opens the directory and goes on from there, behind the fence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

from aiokafka.errors import KafkaError

from streams.concerns import KafkaSettings
from streams.durable import Row
from streams.errors import OperatorError
from streams.log import logger
from streams.observe import Observer
from streams.recovery import ChangelogReader, Replay
from streams.store import ROWS_PER_WRITE_MAX, ShardStore, StoreClosed, opened
from streams.turns import UPKEEP, Turns

POLL_S = 1.0
"""Between two looks at the changelogs: about how old a copy is."""
RETRY_S = 5.0
SEAL_MS = 600_000
"""A copy to which nothing comes says so often: it has not missed the tombstones that it did not need."""

log = logger(__name__)


class Standby:
    """Keeps up the copies of one job's shards that are at work elsewhere; `follow` says which, at every
    assignment. It never ends the worker: a copy that cannot be kept up is left as it is, and the log says so.
    """

    def __init__(
        self, source: str, changelog: str, folder: Path, name: str, kafka: KafkaSettings, observer: Observer,
        turns: Turns,
    ) -> None:  # fmt: skip
        self._source, self._changelog, self._folder, self._name = source, changelog, folder, name
        self._kafka, self._observer, self._turns = kafka, observer, turns
        self._own: set[int] = set()
        self._copies: dict[int, Copy] = {}
        self._task: asyncio.Task[None] | None = None
        self._told = False

    async def follow_all_but(self, own: Iterable[int]) -> None:
        """These are at work here from now on: their directories are free when it returns."""
        await self.stop()
        self._own = set(own)
        self._task = asyncio.create_task(self._run(), name=f"standby {self._name}")

    async def stop(self) -> None:
        """Let go of all directories."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._close()

    async def _close(self) -> None:
        copies, self._copies = self._copies, {}
        for copy in copies.values():
            copy.store.let_go()
        self._observer.stood_by(self._source, 0, 0)
        for copy in copies.values():
            await copy.store.gone()

    async def _run(self) -> None:
        """Until the next assignment; at once when there is nothing to copy."""
        while True:
            try:
                return await self._keep_up()
            except (OperatorError, KafkaError, StoreClosed) as error:
                if not self._told:  # tried again every RETRY_S: an outage is one line
                    log.warning("copies of other shards are not kept up", job=self._name, why=str(error))
                self._told = True
            await self._close()  # one that has failed once is of no more use
            await asyncio.sleep(RETRY_S)

    async def _keep_up(self) -> None:
        async with ChangelogReader(self._kafka) as reader:
            for partition in await reader.partitions(self._changelog):
                if partition not in self._own:
                    store = await opened(self._folder / f"{self._name}-{partition}")
                    self._copies[partition] = Copy(store, self._turns)
            while self._copies:
                replays = {p: copy.replay(self._changelog, p) for p, copy in self._copies.items()}
                await reader.replay([*replays.values()])
                for partition, copy in self._copies.items():
                    copy.seal(replays[partition].next_offset)
                rows = sum(replay.rows for replay in replays.values())
                self._observer.stood_by(self._source, len(self._copies), rows)
                if self._told:
                    log.info("copies of other shards are kept up again", job=self._name)
                self._told = False
                await asyncio.sleep(POLL_S)


class Copy:
    """One shard's rows as its changelog has them, and no state."""

    def __init__(self, store: ShardStore, turns: Turns) -> None:
        self.store, self._turns = store, turns

    def replay(self, changelog: str, partition: int) -> Replay:
        """What it lacks."""
        return Replay(changelog, partition, self.store.meta.changelog_next, self._take, self.store.wipe)

    async def _take(self, rows: list[Row], next_offset: int) -> None:
        """In log order; the place in the changelog moves with the last of them."""
        for start in range(0, len(rows), ROWS_PER_WRITE_MAX):
            some = rows[start : start + ROWS_PER_WRITE_MAX]
            await self._turns.take(UPKEEP)
            self.store.write(some, next_offset if start + len(some) == len(rows) else None)

    def seal(self, next_offset: int) -> None:
        """All up to here is in it, now."""
        meta = self.store.meta
        if next_offset > meta.changelog_next or int(time.time() * 1_000) - meta.saved_ms > SEAL_MS:
            self.store.write([], next_offset)
