"""Emission, census, upkeep: who is due, who is ranked, and that nobody is forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from models.arena import ArenaFull
from models.due import DUE_USERS_MAX, DueQueue, Reason
from models.verbs import Role
from streams.checkpoint import ShardLost
from streams.feeds import FeedWriter
from streams.redis_link import RedisUnavailableError
from streams.store import StoreClosed
from tests.oracle.made_up import Size, Stream
from tests.topologies.in_process import LocalShard, LocalWorker, Sizes, run
from tests.topologies.outside import USERS, Board, Heads, Topics
from tests.topologies.test_in_process import policy
from tests.waiting import GUARD_S
from topologies.census import known_users
from topologies.delivery import SLICES_WAITING_MAX
from topologies.emission import PARTITION_BYTES, due_key
from topologies.heartbeat import caught_up
from topologies.upkeep import Upkeep
from topologies.user_shard import Signals
from wire.version import Version

STREAM = Stream(4, Size(activities=300, items=60, users=30, changing=False, quiet=3))
STALE_MS = 3_600_000


def worker(sizes: Sizes = Sizes(), heads: Heads | None = None) -> LocalWorker:  # noqa: B008
    """One that has applied the whole stream on two partitions."""
    topics = Topics(2)
    for event in STREAM.events:
        topics.produce(event)  # type: ignore[arg-type]
    made = LocalWorker(topics, policy(), sizes, heads or Heads(), Board(), {})
    made.tail_items(1_000)
    for partition in range(2):
        made.open((USERS, partition))
        shard = made.users.shards[partition]
        while shard.lag:
            made.ingest((USERS, partition), 5)
    return made


def due(one: LocalWorker) -> dict[bytes, Reason]:
    """Who is due (key of queue -> reasons); empties the queue."""
    found: dict[bytes, Reason] = {}
    while popped := one.emission.due.pop(100, 1 << 50):
        found |= {d.user: d.reasons for d in popped}
        one.emission.due._filled_ms = None
        one.emission.due._tokens_m = 1 << 40
    return found


def rested(one: LocalWorker) -> LocalWorker:
    """Nobody is due."""
    one.emission.due = DueQueue()
    one.emission._record_ms.clear()
    return one


def _in(one: LocalWorker, user: bytes, partition: int) -> bool:
    return bool(one.users.shards[partition].state.rows.arena.lookup([user])[0][0] >= 0)


def signal(shard: LocalShard, users: list[bytes], role: Role, record_ms: int) -> Signals:
    slots, _ = shard.state.rows.arena.lookup(users)
    count = len(users)
    return Signals(slots, np.full(count, role, np.int8), np.full(count, record_ms), [])


# -- who is due -------------------------------------------------------------------------------------------


def test_acts_of_one_user_are_one_due_with_all_reasons_and_the_first_record_counts() -> None:
    one = rested(worker())
    shard = one.users.shards[0]
    user = next(iter(shard.state.rows.arena.ids))
    one.emission.signalled(shard, signal(shard, [user], Role.STRONG, 111))
    one.emission.signalled(shard, signal(shard, [user], Role.NEGATIVE, 222))
    one.emission.mark(0, [user], Reason.STALE, [5_000])
    key = due_key(0, user)
    assert one.emission._record_ms == {key: 111}
    assert due(one) == {key: Reason.EXPLICIT | Reason.NEGATIVE | Reason.STALE}


def test_a_refused_mark_is_remembered_nowhere() -> None:
    one = rested(worker())
    one.emission.due = DueQueue(users_max=1)
    shard = one.users.shards[0]
    users = list(shard.state.rows.arena.ids)[:3]
    one.emission.signalled(shard, signal(shard, users, Role.STRONG, 1))
    assert len(one.emission.due) == len(one.emission._record_ms) == 1


def test_a_new_item_makes_active_followers_due_and_nobody_else() -> None:
    one = rested(worker())
    followers = {
        due_key(p, shard.state.rows.arena.ids[slot])
        for p, shard in one.users.shards.items()
        for author, slots in shard.state.rows.followers._slots.items()
        for slot in slots
        if author == int(one.catalogue.index.author_fp[one.catalogue.index.author[0]]) & ((1 << 48) - 1)
    }
    one.emission.items_came(one.catalogue.index.fp[:1])
    found = due(one)
    assert found.keys() <= followers
    assert set(found.values()) <= {Reason.NEW_ITEM}
    active = one.emission.as_of_ms() - one.emission.active_ms
    for key in followers - found.keys():
        shard = one.users.shards[int.from_bytes(key[:PARTITION_BYTES], "big")]
        slot = shard.state.rows.arena.lookup([key[PARTITION_BYTES:]])[0]
        assert shard.state.rows.arena.rows["newest_ms"][slot][0] <= active


def test_without_shards_nobody_is_due_and_time_does_not_jump_to_the_wall_clock() -> None:
    one = LocalWorker(Topics(2), policy(), Sizes(), Heads(), Board(), {})
    one.emission.clock.wall_ms = lambda: 1 << 60
    assert not caught_up(one.users)
    one.emission.items_came(np.array([1], np.uint64))
    assert one.emission.as_of_ms() == 0


# -- the loop ---------------------------------------------------------------------------------------------


def test_due_users_are_ranked_once_within_the_budget_and_gone_shards_are_left_out() -> None:
    heads = Heads()
    one = rested(worker(heads=heads))
    one.emission.due = DueQueue(per_s=0, burst=9)
    here, gone = (sorted(one.users.shards[p].state.rows.arena.ids) for p in (0, 1))
    one.emission.mark(0, here, Reason.EXPLICIT, [0] * len(here))
    one.emission.mark(1, gone, Reason.EXPLICIT, [0] * len(gone))
    one.emission._record_ms[due_key(1, gone[0])] = 1
    one.lose((USERS, 1))
    before = len(here) + len(gone)
    asyncio.run(_loop(one, lambda: len(one.emission.due) <= before - 9))
    assert len(one.emission.due) == before - 9
    written = {user.encode() for user, _ in heads.feeds}
    assert written
    assert written <= set(here)


def test_a_popped_user_of_a_gone_shard_leaves_no_trace() -> None:
    one = rested(worker())
    user = next(iter(one.users.shards[1].state.rows.arena.ids))
    one.emission.signalled(one.users.shards[1], signal(one.users.shards[1], [user], Role.STRONG, 5))
    one.lose((USERS, 1))
    asyncio.run(_loop(one, lambda: not one.emission._record_ms))
    assert not one.emission.due


async def _loop(one: LocalWorker, until: Any) -> None:
    running = asyncio.create_task(one.emission.run())
    async with asyncio.timeout(GUARD_S):
        while not until():  # noqa: ASYNC110
            await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    running.cancel()


def test_a_shard_given_up_before_its_turn_is_left_alone() -> None:
    heads = Heads()
    one = worker(heads=heads)
    shard = one.users.shards[0]
    users = list(shard.state.rows.arena.ids)[:3]
    one.lose((USERS, 0))
    assert run(one.emission.emit(shard, users, 1 << 41)) == 0
    assert not heads.feeds


def test_memory_full_of_uncommitted_rows_is_committed_and_nobody_is_skipped() -> None:
    heads = Heads()
    one = worker(Sizes(users=8, ranked=4), heads)
    shard = one.users.shards[0]
    run(shard.flush_now())
    mine = sorted(key[1:] for key in shard.store.rows if key[:1] == b"u")
    assert len(mine) > 8
    shard.state.rows.arena.touch(np.arange(8))
    with pytest.raises(ArenaFull):
        one.emission._make_resident(shard, [u for u in mine if not _in(one, u, 0)][:4])
    for start in range(0, len(mine), 4):
        run(one.emission.emit(shard, mine[start : start + 4], one.emission.as_of_ms()))
    assert {user.encode() for user, _ in heads.feeds} == set(mine)
    assert shard.state.rows.arena.dirty_rows() < 8


def test_a_shard_lost_while_room_is_made_ends_nothing_else() -> None:
    one = worker(Sizes(users=8, ranked=4))
    shard = one.users.shards[0]

    async def lost() -> None:
        raise ShardLost("fenced", "fenced")

    run(shard.flush_now())
    shard.flush_now = lost
    shard.state.rows.arena.touch(np.arange(8))
    away = [k[1:] for k in shard.store.rows if k[:1] == b"u" and not _in(one, k[1:], 0)][:4]
    assert len(away) == 4
    other = one.users.shards[1]
    there = sorted(other.state.rows.arena.ids)[:2]
    assert run(one.emission.emit_all([(shard, away), (other, there)], one.emission.as_of_ms())) == 4


def test_an_outage_of_redis_is_waited_for_and_the_feed_is_written_then() -> None:
    heads, one = Heads(), worker()
    failures: list[str] = []

    class Away(FeedWriter):
        def __init__(self) -> None:
            self.failures = self.losses = 0

        async def write(self, feeds: Any) -> Any:
            if self.failures < 3:
                self.failures += 1
                failures.append(",".join(sorted(one.emission.delivery.health.reasons)))
                raise RedisUnavailableError("away", retry_after_s=0)
            return await heads.write_patiently(feeds, lambda error: None)

    one.emission.delivery.writer = Away()
    shard = one.users.shards[0]
    users = sorted(shard.state.rows.arena.ids)[:2]
    assert asyncio.run(one.emission.emit(shard, users, one.emission.as_of_ms())) == 4
    assert failures == ["start", "redis,start", "redis,start"]
    assert "redis" not in one.emission.delivery.health.reasons
    assert one.emission.metrics.value("feedrank_redis_errors_total") == 3
    assert one.emission.metrics.value("feedrank_redis_up") == 1


def test_from_the_record_to_redis_is_measured_once() -> None:
    one = rested(worker())
    shard = one.users.shards[0]
    user = next(iter(shard.state.rows.arena.ids))
    one.emission.signalled(shard, signal(shard, [user], Role.STRONG, 1))
    measured = "feedrank_event_to_redis_seconds_count"
    asyncio.run(_loop(one, lambda: one.emission.metrics.value(measured) == 1))
    one.emission.mark(0, [user], Reason.STALE, [0])
    asyncio.run(_loop(one, lambda: not one.emission.due))
    assert one.emission.metrics.value(measured) == 1


@pytest.mark.parametrize(("reason", "slices"), [(Reason.STALE, 1), (Reason.VISIT, 3)])
def test_behind_only_those_who_wait_are_ranked_without_a_pause(
    reason: Reason, slices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("topologies.emission.UPKEEP_PAUSE_S", 1_000.0)
    one = rested(worker(Sizes(ranked=2)))
    shard = one.users.shards[0]
    users = sorted(shard.state.rows.arena.ids)[:6]
    one.emission.mark(0, users, reason, [0] * len(users))
    monkeypatch.setattr("topologies.emission.caught_up", lambda shards: False)
    shard.source.append(shard.source[-1])  # one record waits
    assert shard.lag == 1
    left = len(users) - 2 * slices
    asyncio.run(_loop(one, lambda: len(one.emission.due) == left))
    assert len(one.emission.due) == left


def test_redis_that_is_away_stops_ranking_after_a_few_slices_and_nobody_is_forgotten() -> None:
    one = rested(worker(Sizes(ranked=1)))
    asked = 0

    async def never(feeds: Any, waiting: Any) -> Any:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    one.emission.delivery.writer = cast(Any, SimpleNamespace(write_patiently=never))
    for partition, shard in one.users.shards.items():
        users = sorted(shard.state.rows.arena.ids)
        one.emission.mark(partition, users, Reason.EXPLICIT, [0] * len(users))
    before = len(one.emission.due)
    held = 1 + SLICES_WAITING_MAX + 1  # being written, queued, ranked and waiting for a place
    assert before > held
    asyncio.run(_loop(one, lambda: len(one.emission.due) == before - held))
    assert len(one.emission.due) == before - held
    assert asked == 1


# -- census and upkeep ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [Sizes(), Sizes(users=8)])
@pytest.mark.parametrize("flushed", [False, True])
def test_a_census_names_each_user_once_wherever_the_row_is(sizes: Sizes, flushed: bool) -> None:
    one = worker(sizes)
    for partition, shard in one.users.shards.items():
        run(shard.flush_now() if flushed else shard.cut_now())
        rows = one.topics.changelogs[USERS, partition]
        everyone = {key[1:] for key, _ in rows if key[:1] == b"u"}
        named = [user for known in known_users(shard.state, shard.store) for user in known.ids]
        assert Counter(named) == Counter(everyone)


def test_a_census_names_users_who_leave_memory_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topologies.census.CHUNK_USERS", 2)
    one = worker(Sizes(users=12))
    shard = one.users.shards[0]
    run(shard.flush_now())
    everyone = {key[1:] for key, _ in one.topics.changelogs[USERS, 0] if key[:1] == b"u"}
    named: list[bytes] = []
    for known in known_users(shard.state, shard.store):
        named += known.ids
        if len(named) == 4:
            shard.state.rows._make_room(12, shard.state.rows.arena.lookup(named)[0])
            assert len(shard.state.rows.arena) == 4
    assert Counter(named) == Counter(everyone)


def test_a_census_of_a_shard_that_is_given_up_says_so() -> None:
    one = worker(Sizes(users=8))
    shard = one.users.shards[0]
    run(shard.flush_now())
    census = known_users(shard.state, shard.store)
    next(census)
    one.lose((USERS, 0))
    with pytest.raises(StoreClosed):
        list(census)


class Redis(Heads):
    """With versions to read; every version asked for is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[str, str] = {}
        self.asked = 0

    async def read_versions(self, surface: str, users: list[str]) -> list[str | None]:
        self.asked += len(users)
        return [self.versions.get(user) for user in users]


def keeper(redis: Redis) -> tuple[LocalWorker, Upkeep]:
    one = rested(worker(heads=redis))
    return one, Upkeep(one.users, one.emission, STALE_MS)


def test_upkeep_finds_missing_stale_and_outdated_feeds_of_active_users() -> None:
    redis = Redis()
    one, upkeep = keeper(redis)
    shard = one.users.shards[0]
    (rows,) = [shard.state.rows.arena.rows]
    now_ms = one.emission.as_of_ms()
    ids = shard.state.rows.arena.ids
    active = [
        s for s in range(shard.state.rows.arena.top) if rows["newest_ms"][s] > now_ms - one.emission.active_ms
    ]
    missing, stale, outdated, fine, garbled = active[:5]
    rows["signal_ms"][active[:5]] = 1
    rows["signal_ms"][outdated] = now_ms - 10
    for slot in active[5:]:
        redis.versions[ids[slot].decode()] = str(Version(1, 1, 1, 1 << 42))
    redis.versions[ids[stale].decode()] = str(Version(1, 1, 1, now_ms - STALE_MS - 1))
    redis.versions[ids[outdated].decode()] = str(Version(1, 1, 1, now_ms - 11))
    redis.versions[ids[fine].decode()] = str(Version(1, 1, 1, now_ms - 1))
    redis.versions[ids[garbled].decode()] = "of another program"
    run(upkeep._look_after(shard))
    assert due(one) == {
        due_key(0, ids[missing]): Reason.MISSING,
        due_key(0, ids[stale]): Reason.STALE,
        due_key(0, ids[outdated]): Reason.EXPLICIT,
        due_key(0, ids[garbled]): Reason.MISSING,
    }


def test_a_shard_is_compared_once_but_another_one_in_its_place_again() -> None:
    redis = Redis()
    one, upkeep = keeper(redis)
    run(upkeep._look_after(one.users.shards[0]))
    first = redis.asked
    assert first > 0
    run(upkeep._look_after(one.users.shards[0]))
    assert redis.asked == first
    one.users.shards[0].checkpoint()
    one.lose((USERS, 0))
    one.open((USERS, 0))
    run(upkeep._look_after(one.users.shards[0]))
    assert redis.asked == 2 * first


def test_a_shard_that_comes_back_is_compared_again_when_due_users_were_dropped_meanwhile() -> None:
    """A rebalance takes it away and gives it back with all its rows; who was due then was not ranked."""
    redis = Redis()
    one, upkeep = keeper(redis)
    shard = one.users.shards[0]
    run(upkeep._look_after(shard))
    wanted = due(one)
    assert wanted
    one.emission.mark(0, [key[PARTITION_BYTES:] for key in wanted], Reason.MISSING, [0] * len(wanted))
    del one.users.shards[0]
    one.emission.due._filled_ms = None

    async def rank() -> None:
        ranking = asyncio.ensure_future(one.emission._rank_due(own=False))
        while len(one.emission.due):  # noqa: ASYNC110
            await asyncio.sleep(0)
        ranking.cancel()

    asyncio.run(rank())
    one.users.shards[0] = shard
    run(upkeep._look_after(shard))
    assert due(one).keys() == wanted.keys()
    asked = redis.asked
    run(upkeep._look_after(shard))
    assert redis.asked == asked, "once is enough"


def test_a_shard_that_is_behind_is_not_compared_yet() -> None:
    redis = Redis()
    one, upkeep = keeper(redis)
    one.users.shards[0].next_offset = -2_000
    run(upkeep._look_after(one.users.shards[0]))
    assert redis.asked == 0


def test_a_census_waits_for_room_in_the_queue() -> None:
    redis = Redis()
    one, upkeep = keeper(redis)
    crowd = [b"crowd-%d" % n for n in range(DUE_USERS_MAX // 2 + 1)]
    one.emission.mark(1, crowd, Reason.MISSING, [0] * len(crowd))

    async def compared() -> int:
        looking = asyncio.create_task(upkeep._look_after(one.users.shards[0]))
        await asyncio.sleep(0.02)
        waiting = len(one.emission.due)
        for user in crowd:
            one.emission.due.discard(due_key(1, user))
        await looking
        return waiting

    assert asyncio.run(compared()) == len(crowd)
    assert 0 < len(one.emission.due) < 100


def test_a_feed_made_long_ago_is_stale_until_it_is_made_again() -> None:
    one, upkeep = keeper(Redis())
    shard = one.users.shards[0]
    user = max(
        shard.state.rows.arena.ids, key=lambda u: shard.state.rows.arena.rows["newest_ms"][_slot(shard, u)]
    )
    now_ms = one.emission.as_of_ms()
    shard.state.rows.was_ranked([user], now_ms - STALE_MS - 1)
    run(upkeep._mark_stale(shard))
    assert due(one) == {due_key(0, user): Reason.STALE}
    run(one.emission.emit(shard, [user], now_ms))
    run(upkeep._mark_stale(shard))
    assert due(one) == {}


def _slot(shard: LocalShard, user: bytes) -> int:
    return int(shard.state.rows.arena.lookup([user])[0][0])


def test_who_was_made_due_is_counted_by_reason() -> None:
    one = rested(worker())
    shard = one.users.shards[0]
    users = sorted(shard.state.rows.arena.ids)[:3]
    counted = {reason: one.emission.metrics.value("feedrank_due_total", reason=reason) for reason in REASONS}
    one.emission.signalled(shard, signal(shard, users, Role.STRONG, 1))
    one.emission.signalled(shard, signal(shard, users[:1], Role.EXPOSURE, 1))
    one.emission.mark(0, users[:2], Reason.STALE, [0, 0])
    for reason, more in REASONS.items():
        assert one.emission.metrics.value("feedrank_due_total", reason=reason) == counted[reason] + more
    assert one.emission.metrics.value("feedrank_due_users") == 3, "nobody is ranked while Redis is away"


REASONS = {"explicit": 3, "visit": 1, "stale": 2, "negative": 0}
