"""Emission (6, 11): who is due is ranked in slices and written to Redis, as fast as the budget allows.

Redis that does not answer stops emission, never ingest: users stay due, coalesced, and are ranked from what
is true then.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models.arena import ArenaFull
from models.due import Due, DueQueue, Reason
from models.fingerprint import FP48
from models.verbs import Role
from streams.checkpoint import ShardLost
from streams.log import logger
from streams.metrics import Metrics
from streams.shard import Shard
from streams.store import StoreClosed
from streams.transport import ShardTable
from streams.turns import UPKEEP, Turns
from topologies.catalogue import Catalogue
from topologies.clock import StreamClock
from topologies.delivery import Delivery, RankedSlice
from topologies.due_watch import DueWatch
from topologies.feed_making import FeedMaker, MadeFeed
from topologies.heartbeat import caught_up
from topologies.user_shard import Signals, UserShard

U64 = NDArray[np.uint64]
BUDGET_POLL_S = 0.002
DUE_LOOK_S = 10.0
PARTITION_BYTES = 2
RANK, SETTLE = "rank", "settle"
FEW_WEIGH = 4.0
"""A slice that is not full gets cheaper by waiting: of 8 users a feed costs twice as much as of 64. So ingest
has its turns first, and no longer than it takes."""
UPKEEP_PAUSE_S = 0.1
"""While ingest is behind, between two slices of users who did nothing: it has the loop otherwise."""
REASONS: dict[int, Reason] = {
    Role.EXPOSURE: Reason.VISIT,
    Role.WEAK: Reason.VISIT,
    Role.STRONG: Reason.EXPLICIT,
    Role.NEGATIVE: Reason.NEGATIVE,
    Role.GRAPH: Reason.EXPLICIT,
    Role.UNDO: Reason.EXPLICIT,
}

log = logger(__name__)
UserShards = ShardTable[UserShard]
Parts = list[tuple[Shard[UserShard], list[bytes]]]


def due_key(partition: int, user: bytes) -> bytes:
    """Users of all shards stand in one queue, under their partition and id."""
    return partition.to_bytes(PARTITION_BYTES, "big") + user


def slices(parts: Parts, users_max: int) -> Iterator[Parts]:
    """Cut into parts of at most `users_max` users together."""
    held: Parts = []
    room = users_max
    for shard, users in parts:
        while users:
            held.append((shard, users[:room]))
            room, users = room - len(users[:room]), users[room:]
            if not room:
                yield held
                held, room = [], users_max
    if held:
        yield held


@dataclass(slots=True)
class Emission:
    """The due queue and the loop that empties it. `users_max` are ranked in one turn. `active_ms`: who did
    nothing for longer gets no feed.

    `dropped`: partitions whose due users were not ranked because the shard was not at work; it may come back.
    """

    users: UserShards
    catalogue: Catalogue
    maker: FeedMaker
    delivery: Delivery
    clock: StreamClock
    metrics: Metrics
    due: DueQueue[bytes]
    users_max: int
    active_ms: int
    turns: Turns = field(default_factory=Turns)
    dropped: set[int] = field(default_factory=set)
    _record_ms: dict[bytes, int] = field(default_factory=dict)
    _came: asyncio.Event = field(default_factory=asyncio.Event)
    _watch: DueWatch = field(init=False)

    def __post_init__(self) -> None:
        self._watch = DueWatch(self.metrics)

    # -- who is due -----------------------------------------------------------------------------------

    def signalled(self, shard: Shard[UserShard], signals: Signals) -> None:
        """Users who did something that changes their feed."""
        now_ms, prefix = self._now_ms(), due_key(shard.partition, b"")
        users = shard.state.rows.arena.ids.keys_at(signals.slots)
        for user, role, record_ms in zip(
            users, signals.role.tolist(), signals.record_ms.tolist(), strict=True
        ):
            key = prefix + user
            if self.due.mark(key, REASONS[role], now_ms, now_ms):
                self._record_ms.setdefault(key, record_ms)
        for role, count in Counter(signals.role.tolist()).items():
            self._marked(REASONS[role], count)
        self._came.set()

    def items_came(self, fps: U64) -> None:
        """New items make the active followers of their authors due."""
        if not self.users.shards:
            return
        index = self.catalogue.index
        slots = index.lookup(fps)
        authors = np.unique(index.author[slots[slots >= 0]])
        fp48s = (index.author_fp[authors] & FP48).tolist()
        as_of_ms = self.as_of_ms()
        for shard in self.users.shards.values():
            known = shard.state.rows.followers
            for fp48 in known.followed(fp48s):
                followers = known.of(fp48)
                if followers is not None:
                    self._follower_due(shard, followers, as_of_ms)

    def _follower_due(self, shard: Shard[UserShard], slots: NDArray[np.uint32], as_of_ms: int) -> None:
        arena = shard.state.rows.arena
        newest = arena.rows["newest_ms"][slots]
        now_ms = self._now_ms()
        prefix, users = due_key(shard.partition, b""), arena.ids.keys_at(slots.astype(np.int64))
        for user, at_ms in zip(users, newest.tolist(), strict=True):
            if at_ms > as_of_ms - self.active_ms:
                key = prefix + user
                self.due.mark(key, Reason.NEW_ITEM, now_ms, now_ms - (as_of_ms - at_ms))
        self._marked(Reason.NEW_ITEM, int((newest > as_of_ms - self.active_ms).sum()))
        self._came.set()

    def mark(self, partition: int, users: Sequence[bytes], reason: Reason, idle_ms: Sequence[int]) -> None:
        """Users that a census found: missing, stale."""
        now_ms = self._now_ms()
        for user, idle in zip(users, idle_ms, strict=True):
            self.due.mark(due_key(partition, user), reason, now_ms, now_ms - idle)
        self._marked(reason, len(users))
        self._came.set()

    def _marked(self, reason: Reason, users: int) -> None:
        self.metrics.add(self.metrics.due, users, str(reason.name).lower())
        self.metrics.due_users.set(len(self.due))  # also while nobody is ranked, as Redis is away
        self._watch.look(self.due, self._now_ms())

    # -- the loop -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Rank who is due and deliver, for ever."""
        ranking = (self._rank_due(own=True), self._rank_due(own=False))
        await asyncio.gather(*ranking, self.delivery.run(), self._look_at_due())

    async def _look_at_due(self) -> None:
        """Also while nobody becomes due: that dropping is over is said then."""
        while True:
            self._watch.look(self.due, self._now_ms())
            await asyncio.sleep(DUE_LOOK_S)

    async def _rank_due(self, own: bool) -> None:
        """Users who did something, or those who wait for nothing: these when nobody else needs the loop."""
        by = RANK if own else UPKEEP
        while True:
            if not self.due.holds(own):
                self._came.clear()
                await self._came.wait()
                continue
            await self._turn(by)
            popped = self.due.pop(self.users_max, self._now_ms(), own)
            self.metrics.due_users.set(len(self.due))
            acts = (self._record_ms.pop(due.user, None) for due in popped)
            record_ms = [at_ms for at_ms in acts if at_ms is not None]
            if parts := self._by_shard(popped):
                await self.delivery.put(await self._rank(parts, self.as_of_ms(), by, record_ms))
            elif not popped:  # the budget is spent
                await asyncio.sleep(BUDGET_POLL_S)
            if not (own or caught_up(self.users)):
                await asyncio.sleep(UPKEEP_PAUSE_S)

    async def _turn(self, by: str) -> None:
        await self.turns.take(by, FEW_WEIGH if by == RANK and len(self.due) < self.users_max else 1.0)

    def _by_shard(self, popped: list[Due[bytes]]) -> Parts:
        """The due users of each shard that is still at work here."""
        found: dict[int, list[bytes]] = {}
        for due in popped:
            partition = int.from_bytes(due.user[:PARTITION_BYTES], "big")
            found.setdefault(partition, []).append(due.user[PARTITION_BYTES:])
        shards = self.users.shards
        self.dropped |= found.keys() - shards.keys()
        return self._at_work([(shards[p], users) for p, users in found.items() if p in shards])

    def _at_work(self, parts: Parts) -> Parts:
        """Without those that have gone. Another owner looks after their users, or upkeep when they return."""
        self.dropped |= {shard.partition for shard, _ in parts if shard.closed}
        return [(shard, users) for shard, users in parts if not shard.closed]

    async def emit(self, shard: Shard[UserShard], users: list[bytes], as_of_ms: int) -> int:
        """As `emit_all`, for users of one shard."""
        return await self.emit_all([(shard, users)], as_of_ms)

    async def emit_all(self, parts: Parts, as_of_ms: int) -> int:
        """Rank users at `as_of_ms` on every surface, in slices, write all in one go; returns feeds written.

        Nothing happens for a shard that was given up meanwhile.
        """
        ranked = []
        for slice_ in slices(parts, self.users_max):
            await self.turns.take(SETTLE)
            ranked.append(await self._rank(slice_, as_of_ms, SETTLE))
        return await self.delivery.deliver(ranked)

    async def _rank(self, parts: Parts, as_of_ms: int, by: str, record_ms: Sequence[int] = ()) -> RankedSlice:
        """One slice of users, ranked on one surface in each turn, beside the loop. To be called in a turn of
        `by`."""
        parts = await self._resident(parts, by)
        batch = self.maker.batch([(shard.state, users) for shard, users in parts])
        if batch is None:
            return RankedSlice((), {})
        made: list[MadeFeed] = []
        for number, surface in enumerate(self.maker.policy.surfaces):
            if number:
                await self._turn(by)
            started = time.perf_counter()
            tick, known = self.catalogue.tick, self.catalogue.items_known
            work = partial(self.maker.ranked, batch, surface, tick, as_of_ms, known)
            made += await self.turns.beside(work)
            self.metrics.spent("rank", time.perf_counter() - started)
        for shard, users in parts:
            if not shard.closed:
                shard.state.rows.was_ranked(users, as_of_ms)
        return RankedSlice(made, {u.decode(): s.partition for s, users in parts for u in users}, record_ms)

    async def _resident(self, parts: Parts, by: str) -> Parts:
        """Bring users of shards that are still ours into memory; all are there at once when it returns.

        Where memory is full, what pins it is committed and flushed first, and another turn is taken.
        """
        while True:
            parts = self._at_work(parts)
            for shard, users in parts:
                try:
                    self._make_resident(shard, users)
                except ArenaFull as full:
                    log.debug("checkpoint and flush before ranking", partition=shard.partition, why=str(full))
                    break
            else:
                return parts
            try:
                await shard.flush_now()
            except (ShardLost, StoreClosed) as gone:
                log.debug("not ranked: the shard was lost", partition=shard.partition, why=str(gone))
                parts = [part for part in parts if part[0] is not shard]
            await self.turns.take(by)

    @staticmethod
    def _make_resident(shard: Shard[UserShard], users: list[bytes]) -> None:
        read: dict[bytes, bytes | None] = {}
        wanted = shard.state.rows.make_resident(users)
        while wanted:
            read |= zip(wanted, shard.store.get_many(wanted), strict=True)
            wanted = shard.state.rows.make_resident(users, read)

    def as_of_ms(self) -> int:
        """The time to rank at: wall clock once every shard of this worker is caught up."""
        return self.clock.as_of_ms(caught_up(self.users))

    @staticmethod
    def _now_ms() -> int:
        return time.monotonic_ns() // 1_000_000
