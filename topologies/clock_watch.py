"""Tells when stream time is ahead of the wall clock (6): once when it begins, once when it is over.

Feeds are ranked as of stream time then, and windows move there, so one activity from 2090 empties new feeds.
Nothing mends that by itself but the years: the time is in the topic, and a replay has to find the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from streams.limits import CLOCK_AHEAD_MS_MAX
from streams.log import logger
from streams.transport import ShardTable
from topologies.clock import StreamClock
from topologies.user_shard import UserShard

LOOK_EVERY_S = 1.0

log = logger(__name__)


@dataclass(slots=True)
class ClockWatch:
    """Of a worker that ranks by the wall clock; others know no time but the stream's."""

    clock: StreamClock
    users: ShardTable[UserShard]
    _ahead: bool = False

    async def run(self) -> None:
        """Look every second, for ever."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """Once it was ahead for more than phones may be, it is over when it is not ahead at all."""
        if self.clock.wall_ms is None:
            return
        now_ms = self.clock.wall_ms()
        ahead_ms = self.clock.stream_ms - now_ms
        if not self._ahead and ahead_ms > CLOCK_AHEAD_MS_MAX:
            self._ahead = True
            log.warning(
                "stream time is ahead of this machine's clock, and feeds are ranked as of then; find the "
                "producer whose clock is wrong (or this machine's), then see 'Stream time is ahead of the "
                "clock' in docs/operations.md",
                stream_time=_when(self.clock.stream_ms),
                ahead_s=ahead_ms // 1_000,
                partitions=self._partitions(now_ms),
            )
        elif self._ahead and ahead_ms <= 0:
            self._ahead = False
            log.info("stream time is not ahead of this machine's clock any more")

    def _partitions(self, now_ms: int) -> str:
        """Where such activities are."""
        latest_ms = now_ms + CLOCK_AHEAD_MS_MAX
        return ",".join(str(p) for p, s in sorted(self.users.shards.items()) if s.state.stream_ms > latest_ms)


def _when(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="seconds")
