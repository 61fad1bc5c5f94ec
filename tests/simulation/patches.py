"""What is replaced while a seed is played: clients, clocks, limits that are reached too rarely."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tests.simulation import consumer, producer
from tests.simulation.redis_server import SimPipelines

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation
    from tests.simulation.worker import SimApp

SMALL: dict[str, Any] = {
    "models.snapshot.COPY_ROWS": 2,
    "topologies.user_rows.GRAPHS_AT_ONCE": 1,
    "streams.flush.ROWS_PER_SLICE": 3,
    "streams.fetch.SEGMENT_RECORDS_MIN": 1,
    "streams.fetch.BLOCK_RECORDS_MIN": 5,
    "streams.recovery.ROWS_PER_SLICE": 4,
    "streams.tail.RECORDS_PER_BATCH_MAX": 7,
    "streams.tail.POLL_S": 0.8,
    "streams.catch_up.RESTORED_BYTES_MAX": 25 * 1_600,
    "streams.shards.BEHIND_RECORDS": 20,
    "streams.standby.POLL_S": 1.0,
    "streams.standby.RETRY_S": 2.0,
    "streams.producing.BATCH_BYTES_MAX": 5_000,
    "streams.feeds.SLICE_FEEDS_MAX": 3,
    "streams.feeds.VERSIONS_SLICE_MAX": 3,
    "topologies.emission.BUDGET_POLL_S": 0.4,
    "topologies.heartbeat.BEAT_S": 0.5,
    "topologies.settler.POLL_S": 0.5,
    "topologies.ingest.CHECKPOINT_ROWS_MAX": 6,
    "topologies.ingest.TOGETHER_RECORDS_MAX": 2,
    "topologies.item_shard.PUBLISH_RECORDS_MAX": 8,
    "topologies.census.CHUNK_USERS": 3,
}
"""Limits and pauses: so that what happens rarely in a large job happens often in a tiny one."""
LIGHT_ROUNDS = 2
"""Of the loop between two heavy steps (the job: 8): most of the turns of a seed would be these."""
EPOCH_S = 1_700_000_000


class Patches:
    """Installs everything for the time of one seed."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def _all(self) -> dict[str, Any]:
        one, loop = self._simulation, self._simulation.loop
        wall: Callable[[], float] = lambda: EPOCH_S + loop.now_s  # noqa: E731
        make_producer, make_consumer = partial(producer.SimProducer, one), partial(consumer.SimConsumer, one)
        found = dict(SMALL)
        found["streams.turns.Turns.__init__.__defaults__"] = (LIGHT_ROUNDS,)
        for module in ("streams.recovery", "streams.tail"):
            found[f"{module}.AIOKafkaConsumer"] = make_consumer
            found |= {f"{module}.{name}": getattr(consumer, name) for name in ("take", "answered_at")}
        return found | {
            "streams.recovery.position_of": consumer.position_of,
            "streams.recovery.partitions_of": consumer.partitions_of,
            "streams.tail.partitions_of": consumer.partitions_of,
            "streams.tail.position_of": consumer.position_of,
            "streams.checkpoint.AIOKafkaProducer": make_producer,
            "streams.checkpoint.forget_errors": producer.forget_errors,
            "topologies.served.AIOKafkaProducer": make_producer,
            "streams.store.Rdict": one.disk.open,
            "streams.store._options": one.disk.options,
            "streams.store.begin_close": lambda path, close: close(),
            "streams.store.WriteBatch": one.disk.batch,
            "streams.redis_link.Redis": one.redis,
            "streams.redis_link.Pipelines": SimPipelines,
            "topologies.worker.Redis": one.redis,
            "streams.transport.FrameTable": lambda *_: None,
            "time.monotonic": loop.time,
            "time.perf_counter": loop.time,
            "time.thread_time": loop.time,
            "time.time": wall,
            "time.monotonic_ns": lambda: int(loop.now_s * 1e9),
            "time.time_ns": lambda: int(wall() * 1e9),
        }

    @contextmanager
    def installed(self) -> Iterator[None]:
        """All of it, until the end of the block."""
        before: list[tuple[Any, str, Any]] = []
        try:
            for path, value in self._all().items():
                owner, name = _place(path)
                before.append((owner, name, getattr(owner, name)))
                setattr(owner, name, value)
            yield
        finally:
            for owner, name, value in reversed(before):
                setattr(owner, name, value)

    @contextmanager
    def app(self, app: SimApp) -> Iterator[None]:
        """What the worker that is made in the block gets for its app."""
        module = import_module("topologies.worker")
        before = module.create_app
        setattr(module, "create_app", lambda *_: app)  # noqa: B010
        try:
            yield
        finally:
            setattr(module, "create_app", before)  # noqa: B010


@cache
def _place(path: str) -> tuple[Any, str]:
    """Who has the attribute, and its name: "module.name", or "module.Class.method.name"."""
    *owners, name = path.split(".")
    cut = len(owners)
    while cut and ".".join(owners[:cut]) not in sys.modules:
        cut -= 1
    owner: Any = import_module(".".join(owners[:cut]))
    for one in owners[cut:]:
        owner = getattr(owner, one)
    return owner, name
