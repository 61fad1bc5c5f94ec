"""Checkpoints of one shard (between 2 and 11): rows, messages and position as one Kafka transaction, then
RocksDB.

docs/checkpoints.md tells what each crash point leads to. In short: the changelog is the truth, a transaction
makes rows and position one, the broker's fence makes this process the only one who can write them, and an
outcome that is not known is never guessed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from streams.concerns import CheckpointSettings, KafkaSettings
from streams.connect import connect_patiently, let_end
from streams.durable import Cut, ShardState
from streams.errors import ExitCode, OperatorError
from streams.faust_private.producer import WholeBatch, forget_errors
from streams.flush import Flusher
from streams.observe import Observer
from streams.producing import TURN, Ready, make_batches, make_ready, send_batches, send_ready
from streams.store import ShardStore
from streams.turns import Turns

PRODUCE_BATCH_BYTES = 4 << 20
"""Of what aiokafka gathers by itself: dead letters. Topics must allow it (MESSAGE_BYTES_MIN)."""
REQUEST_BYTES_MAX = 8 << 20
UNKNOWN = -1
BEHIND_S = 10.0
"""Between checkpoints of a shard that is behind: a row is written once for more of its activities."""
DEFECTS = (AttributeError, AssertionError, KeyError, NameError, TypeError)
PRODUCER_STOP_S = 5.0
GOLDEN = 0.618_033_988_75


class ShardLost(Exception):  # noqa: N818
    """The shard is not (or no longer) known to be ours: nothing that is in memory may be committed any more.

    `outcome` is "fenced" (the broker says that there is another owner, or aborted a transaction that took too
    long) or "unknown" (the broker did not say whether a transaction is committed).
    """

    def __init__(self, message: str, outcome: str) -> None:
        super().__init__(message)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class ShardNames:
    """Where one shard reads from and writes to."""

    source: str
    changelog: str
    partition: int
    transactional_id: str

    def __str__(self) -> str:
        return f"{self.source} partition {self.partition}"


def next_due(due: float, started: float, interval_s: float, behind: bool) -> float:
    """When the next checkpoint is due, after one that was due at `due` and was `started` later.

    >>> next_due(10.0, 10.2, 1.0, behind=False), next_due(10.0, 12.0, 1.0, behind=False)
    (11.0, 12.5)
    >>> next_due(10.0, 10.2, 1.0, behind=True)
    20.2
    """
    if behind:
        return started + max(interval_s, BEHIND_S)
    return max(due + interval_s, started + interval_s / 2)


class Checkpointer:
    """Commits the cuts of one shard, one at a time, and brings committed rows to RocksDB.

    `fence` first; then recovery sets `epoch`, `position`, `changelog_next` and `begun`; then `run` as a task.
    `committed` is called with the position of each committed cut. `waits_since_s`: since when (monotonic) a
    checkpoint has not come to a good end; None: the last one has.
    """

    def __init__(
        self,
        names: ShardNames,
        state: ShardState,
        store: ShardStore,
        kafka: KafkaSettings,
        settings: CheckpointSettings,
        observer: Observer | None = None,
        committed: Callable[[int], None] = lambda position: None,
        turns: Turns | None = None,
    ) -> None:
        self._names, self._state, self._store = names, state, store
        self._kafka, self._settings = kafka, settings
        self._observer = observer or Observer()
        self._committed, self._turns = committed, turns or Turns()
        self._producer: AIOKafkaProducer | None = None
        self._one = asyncio.Lock()
        self._soon = asyncio.Event()
        self._lost: ShardLost | None = None
        self.behind: Callable[[], bool] = lambda: False
        self.epoch = 0
        self.position: int | None = None
        self.begun = False
        self.waits_since_s: float | None = None
        self.changelog_next = store.meta.changelog_next
        name = (names.source, names.partition)
        self._flusher = Flusher(name, state, store, lambda: self.changelog_next, self._observer)

    # -- ownership -----------------------------------------------------------------------------------

    async def fence(self) -> None:
        """Become the only one who can commit for this shard; a predecessor's open transaction is aborted.

        Raises OperatorError when the broker does not answer or refuses.
        """
        await self._stop_producer()
        deadline_s = self._kafka.request_timeout_ms / 1_000
        producer = AIOKafkaProducer(
            **self._kafka.aiokafka(),
            transactional_id=self._names.transactional_id,
            transaction_timeout_ms=self._settings.transaction_timeout_ms,
            request_timeout_ms=self._kafka.request_timeout_ms,
            linger_ms=0,
            max_batch_size=PRODUCE_BATCH_BYTES,
            max_request_size=REQUEST_BYTES_MAX,
        )
        self._producer = producer
        try:
            await connect_patiently(producer, deadline_s)
        except (KafkaError, TimeoutError) as error:
            await self._stop_producer()
            raise OperatorError(
                f"{self._names}: Kafka at {self._kafka.bootstrap_servers} did not accept transactional id "
                f"{self._names.transactional_id} within {deadline_s:.0f} s ({error!r}); check the brokers, "
                "their transaction coordinator, and this user's right to write transactionally",
                ExitCode.BROKER_UNREACHABLE,
            ) from error

    def give_up(self) -> None:
        """What is not committed by now is void; the next owner's fence sees to it."""
        self._lost = self._lost or ShardLost(f"{self._names} was closed", "closed")

    async def close(self) -> None:
        """Give up, and let go of the producer."""
        self.give_up()
        await self._stop_producer()

    async def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        forget_errors(producer)
        await let_end(asyncio.ensure_future(producer.stop()), PRODUCER_STOP_S)

    # -- committing ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Checkpoint every interval (or sooner, see `cut_soon`) and flush, until the shard is lost.

        Raises ShardLost; OperatorError when nobody could commit this (message too large, no right to write).
        """
        interval_s = self._settings.interval_ms / 1_000
        flush_s = self._settings.rocks_flush_ms / 1_000
        share = (self._names.partition + 1) * GOLDEN % 1
        due, flush_due = time.monotonic() + interval_s * share, time.monotonic() + flush_s * share
        while True:
            await self._until(due)
            started = time.monotonic()
            await self.cut_now()
            due = next_due(due, started, interval_s, self.behind())
            if time.monotonic() >= flush_due:
                await self.flush()
                flush_due = time.monotonic() + flush_s

    async def _until(self, due: float) -> None:
        left_s = due - time.monotonic()
        if left_s > 0:
            try:
                async with asyncio.timeout(left_s):
                    await self._soon.wait()
            except TimeoutError:
                pass
        self._soon.clear()

    async def pause(self, running: asyncio.Task[None]) -> None:
        """End the task of `run` between two checkpoints, never within one."""
        async with self._one:
            running.cancel()

    def cut_soon(self) -> None:
        """Do not wait for the interval: much is dirty."""
        self._soon.set()

    async def cut_now(self) -> None:
        """Commit all that is applied at this moment, after the checkpoint in flight if there is one.

        Raises as `run`.
        """
        async with self._one:
            await self._turns.take(TURN)
            if self._lost is not None:
                raise self._lost
            cut = self._state.cut(self.epoch)
            if not cut.nothing:
                if self.waits_since_s is None:
                    self.waits_since_s = time.monotonic()
                await self._commit(cut)
            self.waits_since_s = None
            self.position = cut.position

    async def _commit(self, cut: Cut) -> None:
        started = time.perf_counter()
        size = 0
        try:
            ready = await make_ready(cut.messages, self._turns)
            rows = await make_batches(cut.rows, self._turns, any_order=True)
            async with asyncio.timeout(self._deadline_s):
                size, changelog_next = await self._transact(ready, rows)
        except Exception as error:
            raise self._failed(cut, error, time.perf_counter() - started) from error
        except asyncio.CancelledError:
            self._lost = self._lost or ShardLost(f"{self._names}: given up in a checkpoint", "unknown")
            raise
        self._state.committed(cut)
        self.changelog_next = max(self.changelog_next, changelog_next)
        self._committed(cut.position)
        seconds = time.perf_counter() - started
        self._observer.checkpointed(
            self._names.source, self._names.partition, len(cut.rows), size, seconds, "committed"
        )

    async def flush(self) -> None:
        """Bring what is committed to RocksDB. Raises OperatorError (disk), StoreClosed (shard given up)."""
        await self._flusher.flush()

    @property
    def _deadline_s(self) -> float:
        return (self._settings.transaction_timeout_ms + self._kafka.request_timeout_ms) / 1_000

    async def _transact(self, ready: Ready, batches: list[WholeBatch]) -> tuple[int, int]:
        """Begins only once all is made: a stopped process then holds no transaction open for long."""
        producer = self._producer
        assert producer is not None, "fence() comes before the first checkpoint"
        await producer.begin_transaction()
        messages = await send_ready(producer, ready)
        rows = await send_batches(producer, self._names.changelog, self._names.partition, batches)
        for sent in messages:
            await sent
        changelog_next, size = UNKNOWN, ready.size
        for one in rows:
            base = (await one.future).offset  # of the batch's first record
            changelog_next = base + one.batch.record_count() if base >= 0 else UNKNOWN
            size += one.batch.size()
        await producer.commit_transaction()
        return size, changelog_next

    def _failed(self, cut: Cut, error: Exception, seconds: float) -> Exception:
        """What became of a checkpoint that did not end well. Nothing is ever sent again."""
        self._soon.set()  # `run` hears of it too, whoever asked for this checkpoint
        fenced = isinstance(error, ProducerFenced)
        outcome: Literal["fenced", "unknown"] = "fenced" if fenced else "unknown"
        self._observer.checkpointed(
            self._names.source, self._names.partition, len(cut.rows), 0, seconds, outcome
        )
        if isinstance(error, DEFECTS):
            self._lost = ShardLost(f"{self._names}: a defect", outcome)
            return error
        if isinstance(error, (MessageSizeTooLargeError, RecordListTooLargeError)):
            self._lost = ShardLost(f"{self._names}: a message is too large", outcome)
            return OperatorError(
                f"{self._names}: a checkpoint's message is larger than the broker or its topic accepts "
                f"({error}); raise max.message.bytes of the topics (`feedrank topics check` names them)",
                ExitCode.TOPICS_WRONG,
            )
        if isinstance(error, (TopicAuthorizationFailedError, TransactionalIdAuthorizationFailed)):
            self._lost = ShardLost(f"{self._names}: no right to write", outcome)
            return OperatorError(
                f"{self._names}: Kafka refuses this user's checkpoint ({error!r}); allow it to write to the "
                f"namespace's topics and to use transactional id {self._names.transactional_id}",
                ExitCode.TOPICS_WRONG,
            )
        why = "another owner or the transaction's time-out ended it" if fenced else "its outcome is not known"
        self._lost = ShardLost(f"{self._names}: checkpoint {cut.number} failed ({error!r}): {why}", outcome)
        return self._lost
