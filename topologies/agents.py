"""The agents (1, 4): one per source topic; each hands whole fetches to the shards that they belong to.

sys.exit(run_worker(lambda: build(settings, policy, partitions)))
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from models.policy import Policy
from streams.faust_private.raw import RawFetch
from streams.health import Health
from streams.loop_watch import Progress
from streams.metrics import Metrics
from streams.registry import Registry
from streams.settings import Settings
from streams.transport import ShardApp
from topologies.registry_watch import RegistryWatch
from topologies.worker import Instruments, Worker


def build(settings: Settings, policy: Policy, partitions: int, registry: Registry | None = None) -> ShardApp:
    """The Faust app of a worker; call inside a running loop."""
    told = Instruments(Metrics(settings.observability.service_name), Health(), Progress())
    if registry is not None:
        registry.told = RegistryWatch(told.health, told.progress)
    worker = Worker(settings, policy, partitions, registry, told)
    app = worker.app

    @app.agent(worker.users.source)  # type: ignore[untyped-decorator]
    async def update_profiles(fetches: AsyncIterator[RawFetch]) -> None:
        """Hand each fetch of activities to its shard."""
        async for fetch in fetches:
            worker.users.deliver(fetch)

    @app.agent(worker.items.source)  # type: ignore[untyped-decorator]
    async def update_items(fetches: AsyncIterator[RawFetch]) -> None:
        """Hand each fetch of item deltas to its shard."""
        async for fetch in fetches:
            worker.items.deliver(fetch)

    app.listeners, app.beside = [worker.server.start], [worker]
    return app
