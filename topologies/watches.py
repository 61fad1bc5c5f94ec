"""What looks at a running worker from beside it (all steps): it tells, and changes nothing."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from streams.blame import topics_wrong
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
    kafka = app.site.kafka
    return (
        BrokerWatch(kafka.bootstrap_servers, items_tail.answered_ms, health),
        LagWatch(tuple(app.jobs), items_tail.ends_of),
        ClockWatch(clock, users),
        CheckpointWatch(app.jobs, health, partial(topics_wrong, kafka, app.site.names), app.fail),
    )
