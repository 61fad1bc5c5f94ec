"""Faust's consumer, bent to whole fetches, to positions from the changelog and to shards (step 1).

| what of Faust's is replaced | why |
|---|---|
| one message per record, scheduler, gap and ack book-keeping | 20 callbacks of the loop per record |
| acks as watermark | they pass work in flight, and an exception in an agent acks too |
| seek to the group's committed offsets | the position is in the changelog |
| revocation | Faust forgets its state first, so that every clean rebalance replays |
| the worker's aiokafka consumer | read_uncommitted and a 1,500 ms long poll are hard-coded |
| failed offset commits | they crash the worker; here they only serve lag monitors |
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport import drivers
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.concerns import KafkaSettings
from streams.faust_private.raw import RawFetch, fetch_past_buffered, keep_in_group, take, wake
from streams.faust_private.threads import StoppableThread
from streams.log import logger
from streams.shard import Reader

SCHEME = "kafkashards"
FETCH_WAIT_MS = 20
"""A long poll on empty partitions holds up the next fetch of full ones on the same broker for so long."""
POLL_S = 0.25
"""Faust waits for a poll to end before it stops."""
COMMIT_S = 10.0
TELL_ALL_S = 10.0
"""aiokafka repeats a commit that was not answered, under whatever generation the group has by then: one of a
predecessor can arrive after ours and set back what lag monitors see."""
MAX_POLL_INTERVAL_S = 600.0
HEARTBEAT_SHARE = 0.25
HEARTBEAT_MS_MAX = 500
"""A member hears of a rebalance with its next heartbeat; until the last has, partitions stand still."""

log = logger(__name__)


class WholeFetches:
    """Faust's ConsumerScheduler: here a record is a fetch, and there is one per partition."""

    def iterate(self, records: Mapping[TP, RawFetch]) -> Iterator[tuple[TP, RawFetch]]:
        """In the order in which they came."""
        return iter(records.items())


class _NothingRead(dict[TP, Any]):
    """Faust drops messages below the offset that it read last, and fills gaps above it. Not here."""

    def __getitem__(self, tp: TP) -> None:
        return None


class ShardThread(StoppableThread, driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """aiokafka's consumer in Faust's thread: heartbeats go on whatever the main loop does."""

    consumer: ShardConsumer

    def __post_init__(self) -> None:
        super().__post_init__()
        self.generations: dict[tuple[str, int], int] = {}

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        kafka: KafkaSettings = self.app.site.kafka
        session_ms = kafka.session_timeout_ms
        self._assignor = self.app.assignor  # not round robin: shard and changelog partitions stay together
        return AIOKafkaConsumer(
            **kafka.aiokafka(),
            group_id=self.app.conf.id,
            group_instance_id=kafka.group_instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=kafka.fetch_bytes_max,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            request_timeout_ms=kafka.request_timeout_ms,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=max(min(int(session_ms * HEARTBEAT_SHARE), HEARTBEAT_MS_MAX), 100),
            rebalance_timeout_ms=max(3 * session_ms, kafka.request_timeout_ms),
            max_poll_interval_ms=int(MAX_POLL_INTERVAL_S * 1_000),
        )

    async def on_start(self) -> None:
        await super().on_start()
        fetch_past_buffered(self._ensure_consumer())

    def do_seek(self, tp: TopicPartition, offset: int, generation: int) -> None:
        """Seek and fetch. A partition that has just been revoked needs neither."""
        try:
            consumer = self._ensure_consumer()
            consumer.seek(tp, offset)
            consumer.resume(tp)
        except IllegalStateError:
            return
        self.generations[tp] = generation

    def do_pause(self, tps: Iterable[tuple[str, int]]) -> None:
        """Fetch nothing at all of these until they are sought."""
        consumer = self._ensure_consumer()
        mine = consumer.assignment()
        consumer.pause(*[TopicPartition(*tp) for tp in tps if tp in mine])

    def do_wake(self) -> None:
        """A partition may be delivered again."""
        if self._consumer is not None:
            wake(self._consumer)

    def soon(self, act: Callable[..., None], *arguments: Any) -> None:
        """Run one of the above in the thread. Callable from the main loop; returns at once."""
        self.thread_loop.call_soon_threadsafe(act, *arguments)

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active: Any,
        timeout: float = POLL_S,  # noqa: ASYNC109
        max_records: Any = None,
    ) -> dict[TP, RawFetch]:
        parent = self.consumer
        if not parent.flow_active:
            return {}
        with consumer._subscription.fetch_context():
            fetches = await take(consumer, parent.wanted, min(timeout, POLL_S))
        tps = [TP(one.topic, one.partition) for one in fetches]
        generations = [self.generations.get(tp, 0) for tp in tps]
        return {tp: replace(f, generation=g) for tp, f, g in zip(tps, fetches, generations, strict=True)}

    async def _commit(self, offsets: Mapping[TP, int]) -> dict[TP, int]:
        """Tell the group of those that are ours; returns what it accepted. Never crashes the worker."""
        consumer = self._ensure_consumer()
        mine = consumer.assignment()
        told = {TopicPartition(*tp): OffsetAndMetadata(n, "") for tp, n in offsets.items() if tp in mine}
        if not told:
            return {}
        try:
            async with asyncio.timeout(COMMIT_S):
                await consumer.commit(told)
        except (CommitFailedError, IllegalStateError, KafkaError, TimeoutError) as error:
            log.debug(
                "the group did not take committed offsets", cause=repr(error)
            )  # an outage is told elsewhere
            return {}
        return {TP(*tp): n.offset for tp, n in told.items()}

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's check compares monotonic with wall clock; the worker has its own watchdog."""

    def keep_in_group(self) -> None:
        """The consumer is alive although nobody polls it: a recovery is going on."""
        if self._consumer is not None:
            keep_in_group(self._consumer)


class ShardConsumer(driver.Consumer, Reader):  # type: ignore[misc]
    """Delivers RawFetch objects, and is the Reader of all shards."""

    _thread: ShardThread

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._done: dict[TP, int] = {}
        self._told: dict[TP, int] = {}
        self._tell_all_at = 0.0
        self._held: set[TP] = set()
        self._generations: dict[TP, int] = {}
        super().__init__(*arguments, **options)
        self._read_offset = _NothingRead()

    def _new_consumer_thread(self) -> ShardThread:
        return ShardThread(self, loop=self.loop, beacon=self.beacon)

    # -- fetching ------------------------------------------------------------------------------------

    def wanted(self) -> set[TP]:
        """Partitions whose fetches may be delivered. Also called from the consumer's thread."""
        active: set[TP] = self._active_partitions
        return active - self._held

    async def _wait_next_records(
        self,
        timeout: float,  # noqa: ASYNC109
    ) -> tuple[dict[TP, RawFetch] | None, None]:
        """Faust's sleeps for a second when every partition is held back, and delivers to some only."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        if self.should_stop:
            return None, None
        return await self._getmany(active_partitions=None, timeout=timeout), None

    def _to_message(self, tp: TP, record: RawFetch) -> ConsumerMessage:
        return ConsumerMessage(
            record.topic,
            record.partition,
            record.next_offset - 1,
            0.0,  # timestamps are in the batch
            0,
            (),
            None,
            record,
            None,
            0,
            0,
            TP(record.topic, record.partition),
            generation_id=self.app.consumer_generation_id,
        )

    def highwater(self, tp: TP) -> int:
        """Faust's monitor asks for every message; in a rebalance there is no answer. Shards know."""
        return 0

    async def perform_seek(self) -> None:
        """Faust: to the group's committed offsets. Here: to where each shard stands."""
        for topic, partition, offset in self.app.standing():
            self.seek(topic, partition, offset)

    # -- Reader --------------------------------------------------------------------------------------

    def seek(self, topic: str, partition: int, offset: int) -> None:
        tp = TP(topic, partition)
        self._generations[tp] = self._generations.get(tp, 0) + 1
        self._thread.soon(
            self._thread.do_seek, TopicPartition(topic, partition), offset, self._generations[tp]
        )

    def generation(self, topic: str, partition: int) -> int:
        return self._generations.get(TP(topic, partition), 0)

    def pause(self, topic: str, partition: int) -> None:
        self._held.add(TP(topic, partition))

    def resume(self, topic: str, partition: int) -> None:
        self._held.discard(TP(topic, partition))
        self._thread.soon(self._thread.do_wake)

    def mark_done(self, topic: str, partition: int, position: int) -> None:
        self._done[TP(topic, partition)] = position

    async def is_member(self, topic: str, partition: int, position: int) -> bool:
        return bool(await self._thread.commit({TP(topic, partition): position}))

    def keep_in_group(self) -> None:
        """See ShardThread."""
        self._thread.soon(self._thread.keep_in_group)

    # -- committed offsets ---------------------------------------------------------------------------

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Tell the group how far shards are; Faust's acks are ignored and thrown away."""
        self._acked.clear()
        self._acked_index.clear()
        now_s = time.monotonic()
        if now_s >= self._tell_all_at:
            self._told.clear()
            self._tell_all_at = now_s + TELL_ALL_S
        offsets = {tp: n for tp, n in self._done.items() if n != self._told.get(tp)}
        told: dict[TP, int] = await self._thread.commit(offsets) if offsets else {}
        self._told.update(told)
        return bool(told)

    # -- rebalance -----------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        if revoked and not self.app.should_stop:
            self.stop_flow()
            self.app.flow_control.suspend()
            self.app.flow_control.clear()
            await self.app.revoke(revoked)
            await self.commit()
        for tp in revoked:
            self._done.pop(tp, None)
            self._told.pop(tp, None)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._held.clear()
        self._thread.soon(self._thread.do_pause, set(assigned))
        await super().on_partitions_assigned(assigned, generation_id)


class ShardTransport(driver.Transport):  # type: ignore[misc]
    """What the URL scheme `kafkashards://` stands for."""

    Consumer = ShardConsumer


drivers.TRANSPORTS.aliases[SCHEME] = f"{__name__}:ShardTransport"
