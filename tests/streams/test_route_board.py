"""Promote, rollback and canary on a real Redis: one step, forward only, and one of two operators is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from serving.reader import FeedReader
from streams.concerns import RedisSettings
from streams.errors import ExitCode, OperatorError
from streams.route_board import RouteBoard, canary, promoted, rolled_back
from tests.services import Redis, free_port
from tests.serving.feed_store import FeedStore, entry
from wire.names import ROUTE_KEY, Namespace
from wire.route import HISTORY_MAX, Route, Split

NOW_MS = 1_800_000_000_000


def settings(url: str) -> RedisSettings:
    return RedisSettings(REDIS_URL=url)  # type: ignore[call-arg]


@pytest.fixture
def board(private_redis: Redis) -> Iterator[RouteBoard]:
    redis.Redis.from_url(private_redis.url).delete(ROUTE_KEY)
    with RouteBoard(settings(private_redis.url), "live") as made:
        yield made


def promote(board: RouteBoard, namespace: str) -> Route:
    return board.change(lambda route: promoted(route, namespace, NOW_MS, "ann"))[1]


def rollback(board: RouteBoard) -> Route:
    return board.change(lambda route: rolled_back(route, NOW_MS, "bob"))[1]


def test_readers_only_move_forward_through_promote_and_rollback(
    board: RouteBoard, private_redis: Redis
) -> None:
    live, other = FeedStore(private_redis.url, "live"), FeedStore(private_redis.url, "next")
    live.write("ann", 900, [entry("old")], NOW_MS)
    other.write("ann", 5, [entry("new")], NOW_MS)

    def read(min_version: str | None) -> tuple[str, str]:
        reader = FeedReader.from_url(private_redis.url)
        page = reader.page("ann", min_version=min_version, record=False)
        reader.close()
        return page.entries[0].id, page.version

    first, at_live = read(None)
    promote(board, "next")
    second, at_next = read(at_live)
    rollback(board)
    third, at_live_again = read(at_next)
    assert (first, second, third) == ("old", "new", "old")
    assert at_live < at_next < at_live_again
    with pytest.raises(Exception, match="older than"):
        read(at_live_again.replace("000003", "000004"))


def test_a_session_goes_on_in_what_it_reads_after_a_promote_of_the_same_namespace(
    board: RouteBoard, private_redis: Redis
) -> None:
    store = FeedStore(private_redis.url, "next")
    store.write("ann", 5, [entry(f"i{n}") for n in range(4)], NOW_MS)
    promote(board, "next")
    reader = FeedReader.from_url(private_redis.url)
    one = reader.page("ann", limit=2, record=False)
    two = reader.page("ann", limit=2, cursor=one.cursor, min_version=one.version, record=False)
    reader.close()
    assert [e.id for e in (*one.entries, *two.entries)] == ["i0", "i1", "i2", "i3"]
    assert not two.restarted
    assert one.version.startswith("000002-")
    assert one.slate_id == f"for_you:next:{'000001' + one.version[6:]}:0"  # as the served log knows it


def test_the_history_tells_who_did_what_and_a_rollback_is_undone_only_on_purpose(board: RouteBoard) -> None:
    promote(board, "next")
    assert rollback(board).default == "live"
    with pytest.raises(
        OperatorError, match=r"bob has rolled back already, at .* readers follow live"
    ) as refused:
        rollback(board)  # a second operator, or the first one who wants to go further back
    assert refused.value.exit_code == ExitCode.NOT_READY
    assert board.read().default == "live"
    route = board.change(lambda route: rolled_back(route, NOW_MS, "bob", again=True))[1]
    assert (route.default, route.version, route.generation) == ("next", 3, 4)
    told = [(c.version, c.action, c.by, c.default) for c in board.read().history]
    assert told == [
        (0, "nobody had set a route", "", "live"),
        (1, "promote", "ann", "next"),
        (2, "rollback", "bob", "live"),
        (3, "rollback", "bob", "next"),
    ]
    for n in range(HISTORY_MAX):
        promote(board, f"n{n}")
    assert len(board.read().history) == HISTORY_MAX


def test_of_two_operators_at_once_one_is_told_and_nothing_is_half_done(board: RouteBoard) -> None:
    def slow(route: Route) -> Route:
        promote(board, "faster")
        return promoted(route, "slower", NOW_MS, "bob")

    with pytest.raises(OperatorError, match="promote by ann, version 1") as refused:
        board.change(slow)
    assert refused.value.exit_code == ExitCode.NOT_READY
    assert board.read().default == "faster"


def test_a_canary_is_a_share_and_goes_with_a_share_of_nothing(board: RouteBoard) -> None:
    def split(name: str, share: float) -> Route:
        one = Split(name, share, "june")
        return board.change(lambda route: canary(route, one, NOW_MS, "ann"))[1]

    split("a", 0.5)
    route = split("b", 0.4)
    assert [s.namespace for s in route.splits] == ["a", "b"]
    with pytest.raises(OperatorError, match="shares are 0 to 1"):
        split("c", 0.2)
    assert [s.namespace for s in split("a", 0.0).splits] == ["b"]
    assert promote(board, "b").splits == ()


def test_what_there_is_nothing_to_do_for_is_refused(board: RouteBoard) -> None:
    with pytest.raises(OperatorError, match="everybody reads live already"):
        promote(board, "live")
    with pytest.raises(OperatorError, match="knows nothing of before"):
        rollback(board)


def test_a_damaged_route_and_a_redis_that_is_away_are_one_message(private_redis: Redis) -> None:
    redis.Redis.from_url(private_redis.url).set(ROUTE_KEY, "nonsense")
    with RouteBoard(settings(private_redis.url), "live") as board, pytest.raises(OperatorError, match="DEL"):
        board.read()
    redis.Redis.from_url(private_redis.url).delete(ROUTE_KEY)
    away = settings(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(OperatorError, match="check REDIS_URL") as refused, RouteBoard(away, "live") as board:
        board.read()
    assert refused.value.exit_code == ExitCode.REDIS_UNREACHABLE


def test_heads_are_counted_and_nothing_else(board: RouteBoard, private_redis: Redis) -> None:
    store = FeedStore(private_redis.url, "counted")
    for number in (1, 2):
        for user in ("ann", "bob", "a:b"):
            reader = FeedReader.from_url(private_redis.url, namespace="counted")
            reader.page(user)  # pins: the next write leaves a snapshot
            reader.close()
            store.write(user, number, [entry("i")], NOW_MS)
    assert board.feeds(Namespace("counted"), "for_you") == 3
    assert board.feeds(Namespace("counted"), "following") == 0
