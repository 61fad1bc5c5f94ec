"""A worker's consumer of sources (streams.faust_private.consumer): fetches, slow seeks, offsets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from streams.faust_private.raw import RawFetch
from streams.shard import Reader
from tests.simulation.consumer import SimConsumer, take

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation
    from tests.simulation.worker import SimWorker

POLL_S = 0.5
OFFSETS_EVERY_S = 2.0


class SimReader(Reader):
    """What shards ask of the consumer that feeds them."""

    def __init__(self, simulation: Simulation, worker: SimWorker) -> None:
        self._simulation, self._worker = simulation, worker
        self._consumer = SimConsumer(simulation, isolation_level="read_committed")
        self._generations: dict[TopicPartition, int] = {}
        self._sought: dict[TopicPartition, int] = {}
        self._held: set[TopicPartition] = set()
        self.done: dict[TopicPartition, int] = {}

    def assign(self, tps: list[TopicPartition]) -> None:
        """Nothing is fetched of these before it is sought."""
        self._held.clear()
        self._consumer.assign(tps)
        self._consumer.pause(*tps)

    def forget(self) -> None:
        """All is revoked."""
        self._consumer.assign([])
        self.done.clear()

    async def run(self) -> None:
        """Deliver fetches, for ever; some come late, some twice."""
        while True:
            fetches = await take(self._consumer, self._wanted, POLL_S)
            for fetch in fetches:
                tp = TopicPartition(fetch.topic, fetch.partition)
                self._deliver(replace(fetch, generation=self._sought.get(tp, 0)))
            if not self._consumer.positions:
                await asyncio.sleep(POLL_S)

    def _wanted(self) -> set[TopicPartition]:
        return set(self._consumer.positions) - self._held

    def _deliver(self, fetch: RawFetch) -> None:
        self._worker.deliver(fetch)
        if self._simulation.faults.strays():
            asyncio.get_running_loop().call_later(
                self._simulation.random.random(), self._worker.deliver, self._consumer.once_more(fetch)
            )

    async def tell_offsets(self) -> None:
        """The group's committed offsets, for monitors; for ever."""
        while True:
            await asyncio.sleep(OFFSETS_EVERY_S)
            await self.commit()

    async def commit(self) -> None:
        """Tell the group what is done."""
        await self._simulation.network.ask(
            self._simulation.group.commit, self._worker.name, self._worker.generation, dict(self.done)
        )

    # -- Reader ----------------------------------------------------------------------------------------

    def seek(self, topic: str, partition: int, offset: int) -> None:
        tp = TopicPartition(topic, partition)
        self._generations[tp] = self._generations.get(tp, 0) + 1
        asyncio.get_running_loop().call_later(
            self._simulation.random.random() * 0.01, self._seek, tp, offset, self._generations[tp]
        )

    def _seek(self, tp: TopicPartition, offset: int, generation: int) -> None:
        if tp in self._consumer.positions:
            self._consumer.seek(tp, offset)
            self._consumer.paused.discard(tp)
            self._sought[tp] = max(generation, self._sought.get(tp, 0))

    def pause(self, topic: str, partition: int) -> None:
        self._held.add(TopicPartition(topic, partition))

    def resume(self, topic: str, partition: int) -> None:
        self._held.discard(TopicPartition(topic, partition))

    def mark_done(self, topic: str, partition: int, position: int) -> None:
        self.done[TopicPartition(topic, partition)] = position

    def generation(self, topic: str, partition: int) -> int:
        return self._generations.get(TopicPartition(topic, partition), 0)

    async def is_member(self, topic: str, partition: int, position: int) -> bool:
        there: bool = await self._simulation.network.ask(
            self._simulation.group.commit,
            self._worker.name,
            self._worker.generation,
            {TopicPartition(topic, partition): position},
        )
        return there

    def keep_in_group(self) -> None:
        """Heartbeats are a task of their own."""
