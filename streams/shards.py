"""All shards of one source topic in this process (2, 4): how they open, move, come back and close.

The group's assignment says which shards this worker may open; who owns one is decided by the broker's fence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from aiokafka import TopicPartition

from streams.batch import RecordBatch
from streams.catch_up import Compare, Restore, stand
from streams.checkpoint import Checkpointer, ShardLost, ShardNames
from streams.concerns import CheckpointSettings, KafkaSettings
from streams.log import logger
from streams.observe import REVOKED, Observer
from streams.recovery import ChangelogReader
from streams.reopens import Reopens
from streams.shard import Reader, S, Shard
from streams.standby import Standby
from streams.store import ShardStore, opened
from streams.together import close_all, run_all
from streams.turns import Turns
from wire.names import Namespace

REOPEN_PAUSE_S = 1.0
BEHIND_RECORDS = 20_000
"""With more records to go, throughput counts for more than delay."""
SETTLE_SHARE = 0.8
"""Of the time to stop: the rest is for closing RocksDB and leaving the group."""

log = logger(__name__)


@dataclass(frozen=True)
class Job(Generic[S]):
    """What a topology gives for one source topic.

    `name` names the directory and the Faust table. `open_state(partition, store)` makes an empty state, which
    then gets its rows by `restore`. `apply(shard, batch)` may await, and an error that it raises ends the
    worker. `opened` is awaited when a shard has its rows, before its first batch; `closed` is called when it
    is no longer ours (the same shard may be `opened` again, if nobody else had it meanwhile). `records_now`
    says how many records a batch may have at this moment, given whether the shard is far behind, when nobody
    gets a fresh feed of it; none: always the site's most. `behind`: whether what feeds this job is
    behind, so that its checkpoints may take their time too.
    """

    name: str
    source: str
    changelog: str
    open_state: Callable[[int, ShardStore], S]
    apply: Callable[[Shard[S], RecordBatch], Awaitable[None]]
    opened: Callable[[Shard[S]], Awaitable[None]] | None = None
    closed: Callable[[Shard[S]], None] | None = None
    records_now: Callable[[bool], int] | None = None
    behind: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Site:
    """Where this worker stands: the same for all its jobs."""

    names: Namespace
    kafka: KafkaSettings
    checkpoint: CheckpointSettings
    directory: Path
    records_max: int = 1_000
    stop_s: float = 8.0
    observer: Observer = field(default_factory=Observer)
    turns: Turns = field(default_factory=Turns)
    standby: bool = False


class Shards(Generic[S]):
    """Opens and closes shards as they are assigned and revoked. `failed` gets what must end the worker."""

    def __init__(
        self, job: Job[S], site: Site, reader: Reader, failed: Callable[[BaseException], None]
    ) -> None:
        self.job, self.site = job, site
        self.open: dict[int, Shard[S]] = {}
        self._reader, self._failed = reader, failed
        self._parked: dict[int, Shard[S]] = {}
        self._reopening: dict[int, tuple[Shard[S], asyncio.Task[None]]] = {}
        self._reopens = Reopens(job.source)
        self._leaving = asyncio.Lock()
        place = (job.source, job.changelog, site.directory, job.name)
        self._standby = Standby(*place, site.kafka, site.observer, site.turns) if site.standby else None

    # -- assigned ------------------------------------------------------------------------------------

    async def recover(self, partitions: Iterable[int], idle: Callable[[], None] = lambda: None) -> None:
        """Own exactly these partitions, each with all its rows and at work.

        `idle` is called between reads. Raises OperatorError (broker, disk, position); nothing stays open
        then.
        """
        wanted = sorted(set(partitions))
        await self.revoke([*self.open, *self._reopening], self.site.stop_s)  # opened for an assignment before
        moved = [p for p in self._parked if p not in wanted]
        await close_all([self._parked.pop(partition) for partition in moved], flush=True)
        if self._standby is not None:
            await self._standby.follow_all_but(wanted)
        await self._open(wanted, idle)

    async def _open(self, partitions: list[int], idle: Callable[[], None]) -> None:
        if not partitions:
            return
        started = time.monotonic()
        shards: dict[int, Shard[S]] = {}
        try:
            for partition in partitions:
                parked = partition in self._parked
                shards[partition] = self._parked.pop(partition) if parked else await self._make(partition)
                await asyncio.sleep(0)  # opening a RocksDB takes 5 to 10 ms
            await run_all(shard.checkpoints.fence() for shard in shards.values())
            async with ChangelogReader(self.site.kafka, idle) as reader:
                rows = await self._catch_up(reader, shards)
                await self._check_positions(reader, shards)
            for shard in shards.values():
                if self.job.opened:
                    await self.job.opened(shard)
        except BaseException:
            for shard in shards.values():
                shard.let_go()
            await close_all(shards.values())
            raise
        for partition, shard in shards.items():
            self.open[partition] = shard
            self._reader.seek(self.job.source, partition, shard.next_offset)
            self._reader.mark_done(self.job.source, partition, shard.next_offset)
            shard.start(self._ended)
            self.site.observer.recovered(
                self.job.source, partition, rows[partition], time.monotonic() - started
            )

    async def _make(self, partition: int) -> Shard[S]:
        job, site = self.job, self.site
        names = ShardNames(
            job.source, job.changelog, partition, site.names.transactional_id(job.source, partition)
        )
        store = await opened(site.directory / f"{job.name}-{partition}")
        state = job.open_state(partition, store)

        def committed(position: int) -> None:
            self._reader.mark_done(job.source, partition, position)

        checkpoints = Checkpointer(
            names, state, store, site.kafka, site.checkpoint, site.observer, committed, site.turns
        )

        def records_max() -> int:
            most, now = site.records_max, job.records_now
            return most if now is None else min(most, now(shard.lag > BEHIND_RECORDS))

        shard = Shard(names, state, store, checkpoints, self._reader, job.apply, records_max, site.observer)
        checkpoints.behind = lambda: shard.lag > BEHIND_RECORDS or job.behind()
        return shard

    async def _catch_up(self, reader: ChangelogReader, shards: dict[int, Shard[S]]) -> dict[int, int]:
        """Replay what each shard lacks; returns rows by partition. One that was ours before and finds rows of
        somebody else is made anew."""
        cold = {p: Restore(shard) for p, shard in shards.items() if not shard.checkpoints.begun}
        warm = {p: Compare(shard) for p, shard in shards.items() if shard.checkpoints.begun}
        replays = {p: one.replay() for p, one in cold.items()} | {p: one.replay() for p, one in warm.items()}
        await reader.replay(list(replays.values()), self._progress)
        stale = {p: shards[p] for p, one in warm.items() if one.stale}
        for partition, shard in stale.items():
            log.info("another worker had the shard meanwhile; reading it anew", shard=str(shard.names))
            await shard.close()
            shards[partition] = await self._make(partition)
            await shards[partition].checkpoints.fence()
            cold[partition] = Restore(shards[partition])
            replays[partition] = cold[partition].replay()
        await reader.replay([replays[p] for p in stale], self._progress)
        for partition, one in cold.items():
            one.finish(replays[partition].next_offset)
        return {p: replay.rows for p, replay in replays.items()}

    def _progress(self, rows: int, left: int, seconds_left: float | None) -> None:
        self.site.observer.recovering(self.job.source, rows, left, seconds_left)

    async def _check_positions(self, reader: ChangelogReader, shards: dict[int, Shard[S]]) -> None:
        tps = {p: TopicPartition(self.job.source, p) for p in shards}
        bounds = await reader.bounds(tps.values())
        for partition, shard in shards.items():
            stand(shard, *bounds[tps[partition]])

    # -- revoked -------------------------------------------------------------------------------------

    async def revoke(self, partitions: Iterable[int], deadline_s: float) -> None:
        """Commit what is applied and stop work on these. They stay in memory until `recover` says whose they
        are; what can't be committed in time is abandoned: the next owner reads it again."""
        async with self._leaving:  # until they are parked they stand nowhere: a recovery waits here, too
            await self._revoke(partitions, deadline_s)

    async def _revoke(self, partitions: Iterable[int], deadline_s: float) -> None:
        leaving = [p for p in partitions if p in self.open or p in self._reopening]
        for partition in leaving:
            if reopening := self._reopening.get(partition):
                lost, task = reopening
                task.cancel()
                await asyncio.wait([task])  # until then it may hold the directory
                self._reopening.pop(partition, None)
                await lost.close()  # a task that is cancelled before its first turn has done nothing
        shards = [self.open.pop(p) for p in leaving if p in self.open]
        settled = [False] * len(shards)
        try:
            settled = await asyncio.gather(*(shard.settle(deadline_s) for shard in shards))
        finally:  # also when a newer assignment cuts this short: nobody else knows of them any more
            for shard, keep in zip(shards, settled, strict=True):
                self._gone(shard, REVOKED)
                if keep:
                    self._parked[shard.partition] = shard
                else:
                    shard.let_go()
        await close_all(shard for shard, keep in zip(shards, settled, strict=True) if not keep)

    async def stop(self) -> None:
        """Commit, flush and close everything within the time to stop."""
        deadline_s = self.site.stop_s * SETTLE_SHARE
        if self._standby is not None:
            await self._standby.stop()
        try:
            async with asyncio.timeout(self.site.stop_s):
                await self.revoke([*self.open, *self._reopening], deadline_s)
                await close_all(self._parked.values(), flush=True)
        except TimeoutError:
            log.warning("time to stop is over; what is not committed is read again", job=self.job.name)
        await close_all([*self.open.values(), *self._parked.values()])
        self.open.clear()
        self._parked.clear()

    def _gone(self, shard: Shard[S], why: str) -> None:
        self.site.observer.lost(self.job.source, shard.partition, why)
        if self.job.closed:
            self.job.closed(shard)

    # -- lost ----------------------------------------------------------------------------------------

    def _ended(self, shard: Shard[S], error: Exception) -> None:
        if not isinstance(error, ShardLost):
            self._failed(error)
            return
        if self.open.get(shard.partition) is shard:
            del self.open[shard.partition]
            log.warning("shard lost; it is opened again if it is still ours", cause=str(error))
            self._gone(shard, error.outcome)
            shard.let_go()
            task = asyncio.create_task(self._reopen(shard, error), name=f"reopen {shard.names}")
            self._reopening[shard.partition] = shard, task

    async def _reopen(self, shard: Shard[S], why: ShardLost) -> None:
        """Forget what is in memory; if the group still says that the shard is ours, fence and recover
        anew."""
        partition = shard.partition
        try:
            await shard.close()
            self._reopens.count(why, len(self.open))
            await self._await_membership(partition, shard.checkpoints.position or 0)
            await self._open([partition], lambda: None)
            self.open[partition].checkpoints.waits_since_s = shard.checkpoints.waits_since_s
        except Exception as error:
            self._failed(error)
        finally:
            self._reopening.pop(partition, None)

    async def _await_membership(self, partition: int, position: int) -> None:
        """Returns when the group takes us for the owner; a rebalance that thinks otherwise cancels us."""
        while True:
            if await self._reader.is_member(self.job.source, partition, position):
                return
            await asyncio.sleep(REOPEN_PAUSE_S)

    def waiting(self) -> dict[int, float]:
        """Since when (monotonic, s) partitions wait for a checkpoint: one in flight, or one that was lost."""
        shards = [*self.open.values(), *(lost for lost, _ in self._reopening.values())]
        since = {shard.partition: shard.checkpoints.waits_since_s for shard in shards}
        return {partition: at for partition, at in since.items() if at is not None}
