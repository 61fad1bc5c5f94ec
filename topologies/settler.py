"""The worker's side of `feedrank settle`: ranks every active user of its shards once the tick has come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from streams.log import logger
from streams.shard import Shard
from streams.store import StoreClosed
from streams.transport import ShardTable
from topologies.catalogue import Catalogue
from topologies.census import known_users
from topologies.emission import Emission
from topologies.heartbeat import Heartbeat, now_ms
from topologies.ingest import ItemsReader
from topologies.settlement import SettleBoard, SettleRequest
from topologies.ticks import contain
from topologies.user_shard import UserShard

POLL_S = 0.2

log = logger(__name__)


@dataclass(slots=True)
class Settler:
    """Polls the board; `users_max` users are ranked at once.

    Before the first user is ranked, the item index is made anew from all that the items topic holds: what
    came after the refresh of the tick stands in no list yet.
    """

    board: SettleBoard
    users: ShardTable[UserShard]
    catalogue: Catalogue
    items: ItemsReader
    heartbeat: Heartbeat
    emission: Emission
    users_max: int
    _done: set[tuple[str, int]] = field(default_factory=set)
    _fresh: str = ""

    async def run(self) -> None:
        """Serve requests, for ever; Redis that does not answer is asked again."""
        while True:
            asked_ms = now_ms()
            try:
                request = await self.board.pending()
            except RedisError as error:
                log.debug("settle requests cannot be read", why=str(error))
            else:
                self.heartbeat.asked(request, asked_ms)
                await self.serve(request)
            await asyncio.sleep(POLL_S)

    async def serve(self, request: SettleRequest | None) -> None:
        """Rank and acknowledge what can be settled now."""
        self._done = {done for done in self._done if request is not None and done[0] == request.id}
        if request is None or self.catalogue.tick < request.tick or await self._refused(request):
            return
        for partition, shard in list(self.users.shards.items()):
            ready = not shard.closed and shard.state.position >= request.ends.get(partition, 0)
            if ready and (request.id, partition) not in self._done:
                await self._freshen(request)
                await self._settle(shard, request)

    async def _refused(self, request: SettleRequest) -> bool:
        """Whether the statistics of this tick lack some of the input, or are of a later tick."""
        catalogue = self.catalogue
        if catalogue.tick == request.tick and contain(catalogue.positions, request.ends):
            return False
        why = (
            f"item statistics stand at tick {catalogue.tick}, which closed before all input of tick "
            f"{request.tick} was in: ask again with --as-of-ms {catalogue.as_of_ms + 1} or later"
        )
        try:
            await self.board.refuse(request, why)
        except RedisError as error:
            log.warning("a settlement is refused, but cannot say so; tried again", why=str(error))
        return True

    async def _freshen(self, request: SettleRequest) -> None:
        if self._fresh != request.id:
            await self.items.caught_up()
            await self.catalogue.refresh(self.catalogue.tick, self.catalogue.as_of_ms)
            self._fresh = request.id

    async def _settle(self, shard: Shard[UserShard], request: SettleRequest) -> None:
        try:
            feeds = await self._rank_all(shard, request)
        except StoreClosed as gone:
            log.info("settled in part: the shard has another owner now", why=str(gone))
            return
        if not shard.closed:
            await self._acknowledge(request, shard.partition, feeds)

    async def _acknowledge(self, request: SettleRequest, partition: int, feeds: int) -> None:
        try:
            await self.board.acknowledge(request, partition, feeds)
        except RedisError as error:
            log.warning("settled, but cannot say so; tried again", partition=partition, why=str(error))
            return
        self._done.add((request.id, partition))
        log.info("settled", partition=partition, feeds=feeds, tick=request.tick, as_of_ms=request.as_of_ms)

    async def _rank_all(self, shard: Shard[UserShard], request: SettleRequest) -> int:
        feeds = 0
        for known in known_users(shard.state, shard.store):
            active = known.active_since(request.as_of_ms - self.emission.active_ms).ids
            for start in range(0, len(active), self.users_max):
                users = active[start : start + self.users_max]
                feeds += await self.emission.emit(shard, users, request.as_of_ms)
                await asyncio.sleep(0)
        return feeds
