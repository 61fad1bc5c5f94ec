"""What looks at a running worker from beside it (all steps): it tells, and changes nothing."""

from __future__ import annotations

from typing import Protocol

from streams.health import Health
from streams.tail import TailReader
from streams.transport import ShardApp, ShardTable
from topologies.broker_watch import BrokerWatch
from topologies.checkpoint_watch import CheckpointWatch
from topologies.clock import StreamClock
from topologies.clock_watch import ClockWatch
from topologies.lag_watch import LagWatch
from topologies.user_shard import UserShard


class Watch(Protocol):
    """Looks again and again."""

    async def run(self) -> None:
        """For ever."""


def watches(
    app: ShardApp, users: ShardTable[UserShard], clock: StreamClock, items_tail: TailReader, health: Health
) -> tuple[Watch, ...]:
    """Those of one worker."""
    assert app.topics_wrong is not None, "the worker says which topics it needs"
    return (
        BrokerWatch(app.site.kafka.bootstrap_servers, items_tail.answered_ms, health),
        LagWatch(tuple(app.jobs), items_tail.ends_of),
        ClockWatch(clock, users),
        CheckpointWatch(app.jobs, health, app.topics_wrong, app.fail),
    )
