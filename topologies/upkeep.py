"""Feeds that nobody's act renews (6): missing after a takeover or a lost Redis, and stale ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np

from models.due import DUE_USERS_MAX, Reason
from streams.log import logger
from streams.redis_link import RedisUnavailableError
from streams.shard import Shard
from streams.store import StoreClosed
from streams.transport import ShardTable
from topologies.census import Known, known_users
from topologies.emission import Emission
from topologies.heartbeat import CAUGHT_UP_RECORDS
from topologies.user_shard import UserShard
from wire.version import Version

SWEEP_S = 5.0
ROOM_POLL_S = 0.1
MARKS_PER_SLICE = 1_000
SURFACE = "for_you"

log = logger(__name__)


@dataclass(slots=True)
class Upkeep:
    """Compares what Redis holds with what the rows say, once per shard opened (when it has caught up), per
    Redis lost, and per shard that came back when due users had been dropped.

    `stale_ms`: a feed older than this is stale.
    """

    users: ShardTable[UserShard]
    emission: Emission
    stale_ms: int
    _censused: set[Shard[UserShard]] = field(default_factory=set)
    _losses: int = 0

    async def run(self) -> None:
        """Sweep every few seconds, for ever."""
        while True:
            await self._look_at_redis()
            if self.emission.delivery.writer.losses != self._losses:
                self._losses = self.emission.delivery.writer.losses
                self._censused.clear()
            self._censused &= set(self.users.shards.values())
            for shard in list(self.users.shards.values()):
                await self._look_after(shard)
            await asyncio.sleep(SWEEP_S)

    async def _look_at_redis(self) -> None:
        """While nobody does anything nothing is written, and Redis may come back empty all the same."""
        try:
            await self.emission.delivery.writer.look()
        except RedisUnavailableError as error:
            log.debug("Redis is not there", why=str(error))

    async def _look_after(self, shard: Shard[UserShard]) -> None:
        if shard.partition in self.emission.dropped:
            self._censused.discard(shard)
        try:
            if shard not in self._censused and shard.lag <= CAUGHT_UP_RECORDS:
                self.emission.dropped.discard(shard.partition)  # before it: more may be dropped meanwhile
                await self._census(shard)
                self._censused.add(shard)
        except RedisUnavailableError as error:
            log.debug("census waits for Redis", why=str(error))
        except StoreClosed as gone:
            log.debug("census ends: the shard has another owner now", why=str(gone))
        await self._mark_stale(shard)

    async def _census(self, shard: Shard[UserShard]) -> None:
        as_of_ms = self.emission.as_of_ms()
        for known in known_users(shard.state, shard.store):
            active = known.active_since(as_of_ms - self.emission.active_ms)
            names = [user.decode() for user in active.ids]
            versions = await self.emission.delivery.writer.read_versions(SURFACE, names)
            while len(self.emission.due) > DUE_USERS_MAX // 2:  # noqa: ASYNC110
                await asyncio.sleep(ROOM_POLL_S)  # a full queue refuses, and nobody would come back
            self._compare(shard.partition, active, versions, as_of_ms)

    def _compare(self, partition: int, known: Known, versions: list[str | None], as_of_ms: int) -> None:
        for user, newest, signal, text in zip(
            known.ids, known.newest_ms.tolist(), known.signal_ms.tolist(), versions, strict=True
        ):
            made_ms = _made_ms(text)
            if made_ms is None:
                reason = Reason.MISSING
            elif made_ms < signal:
                reason = Reason.EXPLICIT
            elif made_ms < as_of_ms - self.stale_ms:
                reason = Reason.STALE
            else:
                continue
            self.emission.mark(partition, [user], reason, [as_of_ms - newest])

    async def _mark_stale(self, shard: Shard[UserShard]) -> None:
        as_of_ms = self.emission.as_of_ms()
        slots = shard.state.rows.stale(as_of_ms, self.stale_ms, self.emission.active_ms)
        arena = shard.state.rows.arena
        users = arena.ids.keys_at(slots)
        idle = np.maximum(0, as_of_ms - arena.rows["newest_ms"][slots]).tolist()
        for start in range(0, len(users), MARKS_PER_SLICE):
            part = slice(start, start + MARKS_PER_SLICE)
            self.emission.mark(shard.partition, users[part], Reason.STALE, idle[part])
            await asyncio.sleep(0)


def _made_ms(version: str | None) -> int | None:
    """When a feed was made; None where there is none, or none that this version understands."""
    try:
        return None if version is None else Version.parse(version).as_of_ms
    except ValueError:
        return None
