"""One shard at work (2, 4): its state, its RocksDB, its inbox, its checkpoints, until it is closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from aiokafka.errors import CorruptRecordException

from streams.batch import RecordBatch
from streams.checkpoint import Checkpointer, ShardLost, ShardNames
from streams.durable import ShardState
from streams.errors import ExitCode, OperatorError
from streams.faust_private.raw import RawFetch
from streams.fetch import Unpacker
from streams.inbox import Inbox
from streams.log import logger
from streams.observe import Observer
from streams.store import ShardStore

CORRUPT_MAX = 5
STRAYS_MAX = 3
"""Fetches in a row that begin elsewhere: the first may be a leftover, the next are not."""

S = TypeVar("S", bound=ShardState)

log = logger(__name__)


class Reader:
    """What a shard asks of the consumer that feeds it. Harmless as it stands; the worker's overrides all."""

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Read from `offset` again; fetches of before carry an older generation."""

    def pause(self, topic: str, partition: int) -> None:
        """Fetch no more of it; what is on its way still comes."""

    def resume(self, topic: str, partition: int) -> None:
        """Fetch again."""

    def mark_done(self, topic: str, partition: int, position: int) -> None:
        """All before `position` is committed: the group's committed offset, for lag monitors."""

    def generation(self, topic: str, partition: int) -> int:
        """The number of seeks so far."""
        return 0

    async def is_member(self, topic: str, partition: int, position: int) -> bool:
        """True when the group's coordinator accepts, now, `position` from this worker."""
        return True


class Shard(Generic[S]):
    """Made by `Shards` when the partition is assigned; at work from `start` until it is `closed`.

    `apply` gets one batch at a time, in order, without holes and never twice.
    `ended` is called once with the error when a task of the shard fails, ShardLost included.
    """

    def __init__(
        self,
        names: ShardNames,
        state: S,
        store: ShardStore,
        checkpoints: Checkpointer,
        reader: Reader,
        apply: Callable[[Shard[S], RecordBatch], Awaitable[None]],
        records_max: Callable[[], int],
        observer: Observer,
    ) -> None:
        self.names, self.state, self.store, self.checkpoints = names, state, store, checkpoints
        self.next_offset = self.highwater = 0
        self.heard_s = float("-inf")
        self._reader, self._apply, self._records_max, self._observer = reader, apply, records_max, observer
        self._inbox = Inbox(self._hold, self._go_on)
        self._gone = False
        self._stopping = True
        self._corrupt = self._strays = 0
        self._between = asyncio.Event()
        self._between.set()
        self._tasks: list[asyncio.Task[None]] = []
        self._ended: Callable[[Shard[S], Exception], None] = lambda shard, error: None

    @property
    def closed(self) -> bool:
        """True while the shard is not at work: whatever is still running for it is void."""
        return self._stopping or self._gone

    @property
    def topic(self) -> str:
        return self.names.source

    @property
    def partition(self) -> int:
        return self.names.partition

    @property
    def lag(self) -> int:
        """Records between what is applied and the end of the log, as last heard."""
        return max(self.highwater - self.next_offset, 0)

    def hear(self, highwater: int) -> None:
        """A broker said where the log ends."""
        self.highwater, self.heard_s = max(self.highwater, highwater), time.monotonic()

    # -- what topologies call ------------------------------------------------------------------------

    async def cut_now(self) -> None:
        """Commit all that is applied. Raises ShardLost; the table then sees to the shard."""
        await self.checkpoints.cut_now()

    async def flush_now(self) -> None:
        """Commit all that is applied, then bring it to RocksDB: afterwards no row of before is pinned."""
        await self.checkpoints.cut_now()
        await self.checkpoints.flush()

    # -- ingest --------------------------------------------------------------------------------------

    def deliver(self, fetch: RawFetch) -> None:
        """Queue a fetch; never blocks."""
        self.hear(fetch.highwater)
        self._observer.fetched(self.topic, self.partition, self.next_offset, self.highwater)
        if self.closed:
            return
        self._inbox.put(fetch)

    def _hold(self) -> None:
        self._reader.pause(self.topic, self.partition)
        self._observer.paused(self.topic, self.partition, True)

    def _go_on(self) -> None:
        self._reader.resume(self.topic, self.partition)
        self._observer.paused(self.topic, self.partition, False)

    def start(self, ended: Callable[[Shard[S], Exception], None]) -> None:
        """Begin (again) to apply and to checkpoint from `next_offset`."""
        self._ended, self._stopping = ended, False
        self._tasks = [
            asyncio.create_task(self._guarded(work), name=f"{title} {self.names}")
            for title, work in (("ingest", self._ingest()), ("checkpoints", self.checkpoints.run()))
        ]

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            if not self.closed:
                self._ended(self, error)

    async def _ingest(self) -> None:
        while True:
            fetch = await self._inbox.next()
            if fetch.generation == self._reader.generation(self.topic, self.partition):
                await self._work(fetch)

    async def _work(self, fetch: RawFetch) -> None:
        try:
            for batch in Unpacker(fetch).blocks(self._records_max()):
                if self._stopping or not self._joins(batch):
                    return
                await self._step(batch)
                await asyncio.sleep(0)
            self._corrupt = 0
        except CorruptRecordException as error:
            self._fetch_again(error)

    async def _step(self, batch: RecordBatch) -> None:
        self._between.clear()
        try:
            if len(batch):
                await self._apply(self, batch)
            else:
                self.state.skip_to(batch.next_offset)
            self.next_offset = batch.next_offset
        finally:
            self._between.set()

    def _joins(self, batch: RecordBatch) -> bool:
        """False when the fetch does not begin where we stand: it is asked for again.

        Raises OperatorError when the log has nothing there: the client silently begins elsewhere then.
        """
        if batch.start == self.next_offset:
            self._strays = 0
            return True
        self._strays += 1
        if self._strays > STRAYS_MAX:
            raise OperatorError(
                f"{self.names}: the log does not have offset {self.next_offset} any more and goes on at "
                f"{batch.start}: records were deleted unread, or the topic was made anew. Restore it, or "
                "rebuild into a new namespace (docs/operations.md)",
                ExitCode.POSITION_OUTSIDE_LOG,
            )
        log.debug("a fetch does not join; reading again", shard=str(self.names), at=self.next_offset)
        self._reader.seek(self.topic, self.partition, self.next_offset)
        return False

    def _fetch_again(self, error: CorruptRecordException) -> None:
        self._corrupt += 1
        if self._corrupt > CORRUPT_MAX:
            raise OperatorError(
                f"{self.names} stays damaged at offset {self.next_offset}: {error}; check the broker's disk",
                ExitCode.BROKER_UNREACHABLE,
            ) from error
        log.warning("a fetch was damaged; reading again", shard=str(self.names), cause=str(error))
        self._reader.seek(self.topic, self.partition, self.next_offset)

    # -- the end -------------------------------------------------------------------------------------

    async def settle(self, deadline_s: float) -> bool:
        """Apply no more, commit what is applied; True when all of it is committed within the deadline, of
        which the batch in hand, the checkpoint in flight and the last one get a third each.

        The shard can be started again afterwards.
        """
        self._stopping = True
        part_s = deadline_s / 3
        try:
            async with asyncio.timeout(part_s):
                await self._between.wait()
        except TimeoutError:
            log.warning("a batch takes too long; it is cut short", shard=str(self.names))
        await self._end_tasks(part_s)
        try:
            async with asyncio.timeout(part_s):
                await self.checkpoints.cut_now()
        except (TimeoutError, ShardLost, OperatorError) as error:
            log.warning("the last checkpoint failed; what it held is read again", cause=str(error))
            return False
        self.next_offset = self.checkpoints.position or 0
        self._inbox.drop()
        return True

    async def _end_tasks(self, deadline_s: float) -> None:
        """Ingest ends at once: it stands between two batches, or is cut short. A checkpoint in flight may
        end."""
        tasks, self._tasks = self._tasks, []
        if tasks:
            ingest, running = tasks
            ingest.cancel()
            try:
                async with asyncio.timeout(deadline_s):
                    await self.checkpoints.pause(running)
            except TimeoutError:
                running.cancel()
            await asyncio.wait(tasks)

    def let_go(self) -> None:
        """Void from here on, at once: nothing more is committed, and RocksDB is being closed; who opens the
        directory waits for that. A caller who is cut short has at least done this. Repeats safely."""
        if self._gone:
            return
        self._gone = self._stopping = True
        for task in self._other_tasks():
            task.cancel()
        self.checkpoints.give_up()
        self.store.let_go()
        self._inbox.drop()

    async def close(self, flush: bool = False) -> None:
        """Let go, then wait for what still runs. `flush`: what is committed goes to RocksDB before. Repeats
        safely."""
        try:
            if flush and not (self._gone or self.store.broken):
                await self.checkpoints.flush()
        except OperatorError as error:
            log.warning("RocksDB lacks the newest rows; they are replayed at start", cause=error.message)
        finally:
            self.let_go()
        try:
            if others := self._other_tasks():
                await asyncio.wait(others, timeout=1.0)
            await self.store.gone()
        finally:
            await self.checkpoints.close()

    def _other_tasks(self) -> list[asyncio.Task[None]]:
        return [task for task in self._tasks if task is not asyncio.current_task()]
