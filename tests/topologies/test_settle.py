"""Settle: the board in Redis, the heartbeat's part, the worker's part; and the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from streams.store import StoreClosed
from tests.topologies.in_process import GRACE_MS, TICK_MS, LocalWorker, Sizes
from tests.topologies.outside import ITEMS, Board, Heads
from tests.topologies.test_emission import worker
from topologies.clock import StreamClock
from topologies.settlement import SettleBoard, SettleRefused, SettleRequest
from topologies.ticks import TickGate, tick_of
from wire.names import Namespace

REQUEST = SettleRequest("one", 12, 120_000, {0: 5, 3: 0})


def on_board(url: str, namespace: str, use: Callable[[SettleBoard, Redis], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        redis = Redis.from_url(url)
        try:
            return await use(SettleBoard(redis, Namespace(namespace)), redis)
        finally:
            await redis.aclose()

    return asyncio.run(go())


def test_a_request_stands_on_the_board_until_another_replaces_it(redis_url: str, namespace: str) -> None:
    async def use(board: SettleBoard, redis: Redis) -> None:
        assert await board.pending() is None
        await board.ask(REQUEST)
        assert await board.pending() == REQUEST
        await board.acknowledge(REQUEST, 3, 17)
        other = SettleRequest("two", 13, 130_000, {0: 1})
        await board.ask(other)
        assert await board.pending() == other
        await board.acknowledge(REQUEST, 0, 1)  # a worker that is late
        assert await board.acknowledged(other) == {}

    on_board(redis_url, namespace, use)


def test_request_and_acknowledgements_expire(redis_url: str, namespace: str) -> None:
    async def use(board: SettleBoard, redis: Redis) -> None:
        await board.ask(REQUEST)
        await board.acknowledge(REQUEST, 0, 1)
        for key in (f"feedrank:settle:{{{namespace}}}", f"feedrank:settle:{{{namespace}}}:acks"):
            assert 0 < await redis.ttl(key) <= SettleBoard.TTL_S

    on_board(redis_url, namespace, use)


def test_waiting_ends_with_all_acknowledgements_or_names_the_missing(redis_url: str, namespace: str) -> None:
    async def use(board: SettleBoard, redis: Redis) -> None:
        await board.ask(REQUEST)
        await board.acknowledge(REQUEST, 3, 17)
        await board.acknowledge(REQUEST, 3, 17)
        with pytest.raises(TimeoutError, match=r"partitions \[0\] did not acknowledge"):
            await board.wait(REQUEST, timeout_s=0.01, poll_s=0.005)
        await board.acknowledge(REQUEST, 0, 4)
        assert await board.wait(REQUEST, timeout_s=1) == {0: 4, 3: 17}
        await board.ask(REQUEST)
        await board.refuse(REQUEST, "ask later")
        with pytest.raises(SettleRefused, match="ask later"):
            await board.wait(REQUEST, timeout_s=1)

    on_board(redis_url, namespace, use)


@given(st.integers(0, 1 << 40), st.dictionaries(st.integers(0, 99), st.integers(0, 1 << 50), max_size=5))
def test_a_request_survives_its_encoding(tick: int, ends: dict[int, int]) -> None:
    request = SettleRequest("x", tick, tick * 10, ends)
    assert SettleRequest.decode(request.encode()) == request


# -- heartbeat --------------------------------------------------------------------------------------------


def settling(heads: Heads | None = None) -> tuple[LocalWorker, SettleRequest]:
    """A worker with everything applied, owner of all, and a request for its end."""
    one = worker(heads=heads)
    for partition in range(2):
        one.open((ITEMS, partition))
    tick = tick_of(one.emission.clock.stream_ms, TICK_MS) + 1
    ends = {p: len(log) for p, log in enumerate(one.topics.activities)}
    return one, SettleRequest("one", tick, tick * TICK_MS, ends)


def turn(one: LocalWorker, now_ms: int) -> None:
    """Everything once: beat, checkpoints, deltas, markers."""
    one.heartbeat.beat(now_ms)
    for shard in [*one.users.shards.values(), *one.items.shards.values()]:
        shard.checkpoint()
    for partition in range(2):
        one.ingest((ITEMS, partition), 100)
        one.tail_features(partition, 10_000)
    one.refresh()


def test_a_request_moves_the_watermark_of_those_who_have_all_input_and_of_nobody_else() -> None:
    one, request = settling()
    request.ends[1] += 1
    one.heartbeat.asked(request, 1)
    one.heartbeat.beat(2)
    done, behind = (one.users.shards[p].state for p in (0, 1))
    assert done.watermark_ms == request.as_of_ms
    assert behind.watermark_ms == behind.stream_ms < request.as_of_ms


def test_a_settled_tick_waits_for_the_last_one_however_long_and_grace_works_again_after_it() -> None:
    one, request = settling()
    request.ends[1] += 1
    for now_ms in range(0, 20 * GRACE_MS, GRACE_MS):
        one.heartbeat.asked(request, now_ms)
        turn(one, now_ms)
    assert one.catalogue.tick < request.tick
    request.ends[1] -= 1
    for now_ms in range(20 * GRACE_MS, 23 * GRACE_MS, GRACE_MS):
        one.heartbeat.asked(request, now_ms)
        turn(one, now_ms)
    assert one.catalogue.tick == request.tick
    one.users.shards[0].state.watermark_ms += 10 * TICK_MS
    for now_ms in range(30 * GRACE_MS, 34 * GRACE_MS, GRACE_MS):
        one.heartbeat.asked(request, now_ms)
        turn(one, now_ms)
    assert one.catalogue.tick == request.tick  # while the request is open, all are ranked at its tick
    for now_ms in range(40 * GRACE_MS, 44 * GRACE_MS, GRACE_MS):
        one.heartbeat.asked(None, now_ms)
        turn(one, now_ms)
    assert one.catalogue.tick == request.tick + 10


def test_no_tick_closes_by_grace_while_requests_are_not_known() -> None:
    one, _ = settling()
    one.users.shards[0].state.watermark_ms = one.emission.clock.stream_ms + 10 * TICK_MS
    for now_ms in range(0, 10 * GRACE_MS, GRACE_MS):
        turn(one, now_ms)
    silent = one.users.shards[1].state.watermark_ms // TICK_MS
    assert one.catalogue.tick == silent
    for now_ms in range(10 * GRACE_MS, 14 * GRACE_MS, GRACE_MS):
        one.heartbeat.asked(None, now_ms)
        turn(one, now_ms)
    assert one.catalogue.tick > silent


def test_a_tick_closed_by_grace_has_waited_for_it_itself() -> None:
    gate = TickGate(2, 10, grace_ms=100)
    gate.heard(0, 25)
    assert gate.closable(0) is None
    gate.heard(0, 95)
    assert gate.closable(100) == 2
    gate.close(2, 100)
    assert gate.closable(199) is None
    assert gate.closable(300) == 9


def test_bad_items_go_to_the_shard_of_their_partition_also_when_items_have_more() -> None:
    one, _ = settling()
    one.catalogue.items_next = {0: 10, 1: 20, 2: 30, 5: 60}
    one.heartbeat.beat(1)
    owned = [one.items.shards[p].state.items_next for p in (0, 1)]
    assert owned == [{0: 10, 2: 30}, {1: 20, 5: 60}]


# -- settler ----------------------------------------------------------------------------------------------


def settled(one: LocalWorker, request: SettleRequest) -> Board:
    board = one.board
    board.request = request
    for now_ms in range(0, 5 * GRACE_MS, GRACE_MS):
        one.heartbeat.asked(request, now_ms)
        turn(one, now_ms)
        one.settle(now_ms)
    return board


def test_every_active_user_is_ranked_and_each_partition_acknowledged_once() -> None:
    heads = Heads()
    one, request = settling(heads)
    board = settled(one, request)
    floor_ms = request.as_of_ms - one.emission.active_ms
    active = {
        user.decode()
        for shard in one.users.shards.values()
        for slot, user in ((s, shard.state.rows.arena.ids[s]) for s in range(shard.state.rows.arena.top))
        if shard.state.rows.arena.rows["newest_ms"][slot] > floor_ms
    }
    assert {user for user, _ in heads.feeds} == active
    assert sum(board.acknowledged.values()) == 2 * len(active)
    board.acknowledged.clear()
    one.settle(10**6)
    assert board.acknowledged == {}


def test_a_tick_that_closed_without_all_input_is_refused_and_a_later_one_is_not() -> None:
    one, request = settling()
    one.topics.activities[1].append(one.topics.activities[1][-1])  # comes once the tick is closed
    for now_ms in range(0, 5 * GRACE_MS, GRACE_MS):
        one.heartbeat.asked(request, now_ms)
        turn(one, now_ms)
    assert one.catalogue.tick == request.tick
    again = replace(request, id="again", ends={p: len(log) for p, log in enumerate(one.topics.activities)})
    while one.users.shards[1].lag:
        one.ingest(("users", 1), 100)
    board = settled(one, again)
    assert board.acknowledged == {}
    assert f"stand at tick {request.tick}, which closed before all input" in board.refused
    assert f"--as-of-ms {request.as_of_ms + 1} or later" in board.refused
    later = replace(again, id="later", tick=again.tick + 1, as_of_ms=again.as_of_ms + TICK_MS)
    assert set(settled(one, later).acknowledged) == {0, 1}


def test_a_tick_that_has_passed_is_refused() -> None:
    one, request = settling()
    settled(one, request)
    one.board.acknowledged.clear()
    before = replace(request, id="before", tick=request.tick - 1, as_of_ms=request.as_of_ms - TICK_MS)
    assert settled(one, before).acknowledged == {}
    assert one.board.refused


def test_settled_feeds_know_items_that_came_after_the_tick() -> None:
    one, request = settling()
    one.catalogue.index.remove(one.catalogue.index.fp[:30])
    one.read_items = 0
    one.board.request = request
    for now_ms in range(0, 5 * GRACE_MS, GRACE_MS):
        one.heartbeat.asked(request, now_ms)
        turn(one, now_ms)
    before = one.catalogue.index.lists
    one.settle(10**6)
    assert len(one.catalogue.index) == len(one.topics.items)
    assert one.catalogue.index.lists is not before


def test_a_shard_given_up_in_between_is_not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    one, request = settling()
    shard = one.users.shards[0]

    async def gone(*_: object) -> int:
        shard.closed = True
        return 0

    monkeypatch.setattr(type(one.emission), "emit", gone)
    assert 0 not in settled(one, request).acknowledged


def test_a_store_that_is_closed_in_between_ends_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    one, request = settling()

    def census(*_: object) -> Any:
        raise StoreClosed("given up")

    monkeypatch.setattr("topologies.settler.known_users", census)
    assert settled(one, request).acknowledged == {}


def test_what_was_done_for_an_old_request_is_forgotten() -> None:
    one, request = settling()
    settled(one, request)
    assert one.settler._done == {("one", 0), ("one", 1)}
    one.board.request = None
    one.settle(10**6)
    assert one.settler._done == set()
    assert one.heartbeat.request is None


def test_a_small_memory_leaves_nobody_out() -> None:
    heads = Heads()
    one = worker(Sizes(users=8, ranked=3), heads)
    for partition in range(2):
        one.open((ITEMS, partition))
    large, request = settling(Heads())
    settled(one, request)
    assert sum(one.board.acknowledged.values()) == sum(settled(large, request).acknowledged.values()) > 0


# -- clock ------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100), st.booleans())))
def test_time_never_goes_back_whatever_the_clocks_do(steps: list[tuple[int, int, bool]]) -> None:
    wall = 0
    clock = StreamClock(lambda: wall)
    seen = [0]
    for event_ms, wall, caught_up in steps:  # noqa: B007
        clock.advance(event_ms)
        seen.append(clock.as_of_ms(caught_up))
        assert clock.watermark_ms(event_ms, caught_up=False) == event_ms
    assert seen == sorted(seen)


def test_a_job_of_stream_time_never_looks_at_the_wall() -> None:
    clock = StreamClock(None)
    clock.advance(7)
    assert (clock.as_of_ms(caught_up=True), clock.watermark_ms(3, caught_up=True)) == (7, 3)
