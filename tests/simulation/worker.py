"""A worker: the real one of `topologies.worker`, in a process of its own, without Faust around it."""

from __future__ import annotations

import asyncio
import dataclasses
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from models.policy import Policy
from streams.errors import OperatorError
from streams.faust_private.raw import RawFetch
from streams.health import Health
from streams.loop_watch import Progress
from streams.metrics import Metrics
from streams.observe import Observer
from streams.settings import Settings
from streams.shards import Site
from streams.transport import ShardApp, ShardTable
from tests.simulation.group import take_part
from tests.simulation.loop import Process
from tests.simulation.reader import SimReader
from topologies.worker import Instruments, Worker
from wire.names import Namespace

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

NAMES = Namespace("sim")
TICK_S = 10
ITEMS_MAX = 64
"""Live ones that the index has room for."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How little fits: rows of users in memory per shard, records in a batch, users ranked at once."""

    users: int
    records: int
    ranked: int


@cache
def base_settings() -> Settings:
    """What does not differ between seeds."""
    return Settings.load(
        {
            "FEEDRANK_NAMESPACE": NAMES.name,
            "FEEDRANK_FORMAT": "json",
            "FEEDRANK_CLOCK": "stream",
            "REQUEST_TIMEOUT_MS": "10000",
            "TRANSACTION_TIMEOUT_MS": "4000",
            "ROCKS_FLUSH_MS": "3000",
            "STOP_MS": "3000",
            "TICK_S": str(TICK_S),
            "TICK_GRACE_MS": "1000",
            "REDIS_TIMEOUT_MS": "500",
        }
    )


def settings_of(sizes: Sizes) -> Settings:
    """Smaller than any that an operator may set."""
    base = base_settings()
    smaller = {"arena_rows_max": sizes.users, "ingest_records_max": sizes.records}
    return dataclasses.replace(
        base,
        worker=base.worker.model_copy(update=smaller),
        ranking=base.ranking.model_copy(update={"users_max": sizes.ranked, "items_live_max": ITEMS_MAX}),
    )


@cache
def _metrics() -> Metrics:
    return Metrics("simulation")


class SimApp(ShardApp):
    """The frame of a worker's shards; Faust's own part is played by `group`."""

    consumer: Any = None
    tables: Any = None

    def __init__(self, site: Site, reader: SimReader) -> None:
        self.site, self.consumer = site, reader
        self.jobs: list[ShardTable[Any]] = []
        self.beside: list[Any] = []
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()
        self.tables = SimpleNamespace(add=lambda table: None)

    def topic(self, name: str, **_: Any) -> Any:
        return SimpleNamespace(name=name)


class SimWorker:
    """`name` stays when its process is started again, and so does its directory."""

    def __init__(self, simulation: Simulation, name: str, directory: Path, process: Process) -> None:
        self.simulation, self.name, self.process = simulation, name, process
        self.generation = -1
        self._stopping = False
        self._mine: list[TopicPartition] = []
        self._recovering: asyncio.Task[None] | None = None
        self._reader = SimReader(simulation, self)
        settings = settings_of(simulation.plan.sizes)
        site = Site(
            NAMES, settings.kafka, settings.checkpoint, directory / name, settings.worker.ingest_records_max,
            settings.worker.stop_ms / 1_000, Observer(), standby=simulation.plan.standby,
        )  # fmt: skip
        site.directory.mkdir(parents=True, exist_ok=True)
        self.app = SimApp(site, self._reader)
        with simulation.patches.app(self.app):
            told = Instruments(_metrics(), Health(), Progress())
            policy: Policy = simulation.policy
            self.worker = Worker(settings, policy, simulation.plan.partitions, None, told)

    async def run(self) -> None:
        """Until something of it fails; then the process ends, as a supervisor sees it."""
        worker, loop = self.worker, asyncio.get_running_loop()
        parts = (
            worker.heartbeat.run(), worker.catalogue.keep_fresh(), worker._emit(), self._reader.run(),
            self._reader.tell_offsets(),
        )  # fmt: skip
        tasks = [loop.create_task(worker._guarded(part)) for part in parts]
        tasks.append(loop.create_task(take_part(self.simulation.group, self)))
        await self.app.failed.wait()
        failure = self.app.failure
        self.simulation.note(f"{self.name} ends: {failure!r}")
        if not isinstance(failure, (OperatorError, KafkaError)):
            self.simulation.broken(failure)
        self.simulation.ended(self, failure)

    async def stop(self) -> None:
        """As SIGTERM: commit, flush, close, leave the group."""
        self._stopping = True
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.wait([self._recovering])
        for table in self.app.jobs:
            await table.all.stop()
        await self._reader.commit()
        await self.simulation.network.ask(self.simulation.group.leave, self.name)

    def deliver(self, fetch: RawFetch) -> None:
        """From the consumer to the agent of the topic."""
        for table in self.app.jobs:
            if table.job.source == fetch.topic:
                table.deliver(fetch)

    # -- what the group says ---------------------------------------------------------------------------

    def assigned(self, mine: list[TopicPartition]) -> None:
        """A recovery for these; one that is going on is for an assignment that has passed."""
        if self._stopping:
            return
        self._mine = mine
        self._reader.assign(mine)
        before, self._recovering = self._recovering, None
        self._recovering = asyncio.ensure_future(self._recover(mine, before))

    async def _recover(self, mine: list[TopicPartition], before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done():
            before.cancel()
            await asyncio.wait([before])
        changelogs = {table.job.source: table.job.changelog for table in self.app.jobs}
        try:
            await self.app.recover({TopicPartition(changelogs[tp.topic], tp.partition) for tp in mine})
        except Exception as error:
            self.app.fail(error)
            return
        for topic, partition, offset in self.app.standing():
            self._reader.seek(topic, partition, offset)

    async def revoked(self) -> None:
        """As streams.faust_private.consumer: commit and stop, then let a recovery go."""
        await self.app.revoke(set(self._mine))
        await self._reader.commit()
        self._reader.forget()
        if self._recovering is not None and not self._recovering.done():
            self._recovering.cancel()
            await asyncio.wait([self._recovering])
