"""What stands in for aiokafka's consumer and for what streams takes out of it (faust_private.raw)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError, OffsetOutOfRangeError
from aiokafka.record.default_records import DefaultRecordBatch

from streams.faust_private.raw import RawFetch, Want
from tests.simulation.log import Batch, PartitionLog

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

BATCHES_MAX = 4


class SimConsumer:
    """A consumer without a group."""

    def __init__(self, simulation: Simulation, **options: Any) -> None:
        self.simulation, self._network, self._broker = simulation, simulation.network, simulation.broker
        self._committed = options.get("isolation_level") == "read_committed"
        self.positions: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.ends: dict[TopicPartition, int] = {}
        self.answered_ms: dict[TopicPartition, int] = {}
        self.bytes: dict[TopicPartition, list[bytes]] = {}
        self.stopped = False

    async def start(self) -> None:
        await self._network.ask(lambda: None)

    async def stop(self) -> None:
        self.stopped = True

    async def beginning_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        starts: dict[TopicPartition, int] = await self._network.ask(lambda: dict.fromkeys(tps, 0))
        return starts

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        ends: dict[TopicPartition, int] = await self._network.ask(
            self._broker.ends, list(tps), self._committed
        )
        return ends

    def assign(self, tps: Iterable[TopicPartition]) -> None:
        self.positions = dict.fromkeys(tps, 0)
        self.paused.clear()

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.positions[tp] = offset

    def pause(self, *tps: TopicPartition) -> None:
        self.paused.update(tps)

    def highwater(self, tp: TopicPartition) -> int | None:
        return self.ends.get(tp)

    # -- fetching --------------------------------------------------------------------------------------

    async def fetch(self, tp: TopicPartition) -> RawFetch | None:
        """What is there at the position now, if there is anything and it is still wanted when it comes."""
        start = self.positions[tp]
        batches, aborted, end = await self._network.ask(self._look, tp, start)
        if self.positions.get(tp) != start or self.stopped:
            return None
        self.answered_ms[tp] = int(self.simulation.loop.time() * 1_000)
        self.ends[tp] = end
        if not batches:
            return None
        next_offset = batches[-1].next
        self.positions[tp] = next_offset
        self.bytes[tp] = [batch.data for batch in batches]
        opened, raw = _opened([self._maybe_damaged(batch) for batch in batches])
        return RawFetch(tp.topic, tp.partition, start, next_offset, opened, aborted, True, end, raw=raw)

    def once_more(self, fetch: RawFetch) -> RawFetch:
        """The last fetch of its partition as it comes a second time: a batch is iterated but once."""
        opened, raw = _opened(self.bytes[TopicPartition(fetch.topic, fetch.partition)])
        return replace(fetch, batches=opened, raw=raw)

    def _look(self, tp: TopicPartition, start: int) -> tuple[list[Batch], list[Any], int]:
        log: PartitionLog = self._broker.logs[tp]
        if start > log.end:
            raise OffsetOutOfRangeError({tp: start})
        count = self.simulation.random.randint(1, BATCHES_MAX)
        batches = log.since(start, count, self._committed)
        return batches, log.aborted(batches) if self._committed else [], log.end

    def _maybe_damaged(self, batch: Batch) -> bytes:
        if not self.simulation.faults.damages():
            return batch.data
        at = len(batch.data) - 1
        return batch.data[:at] + bytes([batch.data[at] ^ 1])

    def grown(self, tps: Collection[TopicPartition]) -> asyncio.Future[None]:
        return self._broker.grown(tps)

    def readable(self, tps: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Those of which the brokers have more."""
        logs = self._broker.logs
        mine = (tp for tp in tps if tp in self.positions)
        return [tp for tp in mine if logs[tp].has(self.positions[tp], self._committed)]

    async def ask_in_vain(self, tps: Iterable[TopicPartition]) -> None:
        """The brokers say that there is nothing more, and where logs end."""
        self.ends |= await self._network.ask(self._broker.ends, list(tps), False)
        self.answered_ms |= dict.fromkeys(tps, int(self.simulation.loop.time() * 1_000))


def _opened(data: list[bytes]) -> tuple[list[Any], list[memoryview]]:
    """aiokafka's batches, and where they lie."""
    return [DefaultRecordBatch(one) for one in data], [memoryview(one) for one in data]


async def take(consumer: SimConsumer, want: Want, timeout_s: float) -> list[RawFetch]:
    """As streams.faust_private.raw.take."""
    if consumer.stopped:
        raise ConsumerStoppedError
    wanted = want()
    tps = [tp for tp in consumer.positions if tp not in consumer.paused and (wanted is None or tp in wanted)]
    if not consumer.readable(tps):
        await asyncio.wait([consumer.grown(tps)], timeout=timeout_s)
        if not consumer.readable(tps):
            await consumer.ask_in_vain(tps)
    there = consumer.readable(tps)
    return [fetch for tp in there if tp in consumer.positions and (fetch := await consumer.fetch(tp))]


def answered_at(consumer: SimConsumer, tp: TopicPartition) -> int | None:
    """As streams.faust_private.raw.answered_at."""
    return consumer.answered_ms.get(tp)


def position_of(consumer: SimConsumer, tp: TopicPartition) -> int:
    """As streams.faust_private.raw.position_of."""
    return consumer.positions[tp]


async def partitions_of(consumer: SimConsumer, topic: str) -> list[int]:
    """As streams.faust_private.raw.partitions_of."""
    return list(range(consumer.simulation.broker.partitions[topic]))
