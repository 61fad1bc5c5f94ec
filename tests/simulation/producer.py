"""What stands in for aiokafka's producer: its calls, its errors, and requests that outlive it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import (
    ConcurrentTransactions,
    InvalidProducerEpoch,
    KafkaConnectionError,
    KafkaError,
    ProducerFenced,
    RequestTimedOutError,
)

from streams.faust_private.producer import WholeBatch
from tests.simulation.log import COMMIT, Record, packed
from wire.partitioner import partition_of

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

RETRY_S = 0.05


class Written(NamedTuple):
    """What a future of a batch gives: the offset of its first record, -1 where the broker did not say."""

    offset: int


class SimProducer:
    """One transactional id, or none."""

    def __init__(self, simulation: Simulation, **options: Any) -> None:
        self._simulation, self._network, self._broker = simulation, simulation.network, simulation.broker
        self._name: str | None = options.get("transactional_id")
        self._timeout_s = options.get("transaction_timeout_ms", 60_000) / 1_000
        self._id, self._epoch, self._within = -1, -1, False
        self._pending: list[asyncio.Future[Written]] = []
        self._last: dict[TopicPartition, asyncio.Future[Written]] = {}
        self._added: set[TopicPartition] = set()

    async def start(self) -> None:
        if self._name is not None:
            self._id, self._epoch = await self._network.ask(self._broker.init_producer, self._name)

    async def stop(self) -> None:
        await asyncio.sleep(self._network.delay_s())

    async def begin_transaction(self) -> None:
        self._within, self._pending, self._added = True, [], set()

    async def send_batch(self, batch: WholeBatch, topic: str, *, partition: int) -> asyncio.Future[Written]:
        batch._set_producer_state(self._id, self._epoch, 0)
        return self._send(TopicPartition(topic, partition), batch._build(), batch.record_count())

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> asyncio.Future[Written]:
        count = self._broker.partitions[topic]
        where = partition_of(key or b"", count) if partition is None else partition
        record: Record = (0, timestamp_ms or 0, key, value, tuple(headers or ()))
        return self._send(TopicPartition(topic, where), packed([record], 0, self._id, self._epoch), 1)

    def _send(self, tp: TopicPartition, data: bytearray, count: int) -> asyncio.Future[Written]:
        assert self._within or self._name is None, "aiokafka refuses to send outside of a transaction"
        before = self._last.get(tp)
        done = asyncio.ensure_future(self._deliver(tp, data, count, before))
        self._last[tp] = done
        self._pending.append(done)
        return done

    async def _deliver(
        self, tp: TopicPartition, data: bytearray, count: int, before: asyncio.Future[Written] | None
    ) -> Written:
        if before is not None:
            await asyncio.wait([before])
        if self._name is None:
            return Written(await self._network.ask(self._broker.logs[tp].append, data, count))
        try:
            if tp not in self._added:
                await self._add(tp)
            fate = self._simulation.faults.fate("produce")
            if fate == "lost":
                raise RequestTimedOutError
            base = await self._network.ask(self._broker.produce, tp, data, count, self._id, self._epoch)
            if fate == "answer lost":
                raise KafkaConnectionError("the connection broke")
        except InvalidProducerEpoch as error:
            raise ProducerFenced from error
        return Written(base if fate != "late" else -1)

    async def _add(self, tp: TopicPartition) -> None:
        while True:
            try:
                add = self._broker.add_partition
                await self._network.ask(add, self._name, self._id, self._epoch, tp, self._timeout_s)
            except ConcurrentTransactions:
                await asyncio.sleep(RETRY_S)
            else:
                self._added.add(tp)
                return

    async def commit_transaction(self) -> None:
        """Raises what became of any record, ProducerFenced, or a KafkaError that leaves all open."""
        for sent in self._pending:
            await sent
        self._within = False
        fate = self._simulation.faults.fate("commit")
        if fate == "lost":
            raise RequestTimedOutError
        if fate == "late":
            asyncio.get_running_loop().call_later(
                self._simulation.random.uniform(0.5, 20),
                self._end_late,
                context=self._network.servers.context,
            )
            raise KafkaConnectionError("the connection broke")
        if fate == "hang":
            await asyncio.get_running_loop().create_future()
        await self._network.ask(self._broker.end_transaction, self._name, self._id, self._epoch, COMMIT)
        if fate == "answer lost":
            raise KafkaConnectionError("the connection broke")

    def _end_late(self) -> None:
        """The request comes to the coordinator when its sender has given it up."""
        assert self._name is not None
        try:
            self._broker.end_transaction(self._name, self._id, self._epoch, COMMIT)
        except KafkaError:
            return
        self._simulation.note("a commit that was given up came through")


def forget_errors(producer: SimProducer) -> None:
    """As streams.faust_private.producer does for aiokafka's."""
    for future in producer._pending:
        if future.done() and not future.cancelled():
            future.exception()
