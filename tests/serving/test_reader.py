"""Pages as a caller of the reader sees them, sync and async, from a real Redis."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from serving.errors import FeedsUnavailableError, OlderThanAskedError, WrongRequestError
from serving.pages import FeedPage
from serving.reader import AsyncFeedReader, FeedReader
from tests.services import Redis, free_port
from tests.serving.feed_store import FOR_YOU, FeedStore, entry, version
from wire.cursor import WrongCursorError
from wire.names import Namespace
from wire.route import Route, Split


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Page(Protocol):
    def __call__(self, user: str, **options: Any) -> FeedPage: ...


@pytest.fixture
def store(redis_url: str, namespace: str) -> FeedStore:
    return FeedStore(redis_url, namespace)


@pytest.fixture
def user() -> str:
    return f"user-{uuid.uuid4().hex}"


@pytest.fixture(params=["sync", "async"])
def page(request: pytest.FixtureRequest, redis_url: str, namespace: str) -> Iterator[Page]:
    """`page` of either reader."""
    if request.param == "sync":
        reader = FeedReader.from_url(redis_url, namespace=namespace)
        yield reader.page
        reader.close()
        return
    with asyncio.Runner() as runner:

        async def make() -> AsyncFeedReader:
            return AsyncFeedReader.from_url(redis_url, namespace=namespace)

        other = runner.run(make())
        yield lambda user, **options: runner.run(other.page(user, **options))
        runner.run(other.close())


def ids(page: FeedPage) -> list[str]:
    return [e.id for e in page.entries]


def items(prefix: str, n: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(n)]


def write(store: FeedStore, user: str, number: int, prefix: str, n: int, **options: Any) -> None:
    assert store.write(user, number, [entry(i) for i in items(prefix, n)], now_ms(), **options) == 1


def test_a_page_says_all_about_itself(store: FeedStore, page: Page, user: str, namespace: str) -> None:
    write(store, user, 1, "a", 60)
    first = page(user, limit=3)
    assert ids(first) == ["a0", "a1", "a2"]
    assert (first.source, first.reason, first.version) == ("feed", "", version(1))
    assert (first.restarted, first.stale, first.policy, first.model) == (False, False, "p1", "m1")
    assert first.slate_id == f"for_you:{namespace}:{version(1)}:0"
    last = first.entries[2]
    assert (last.position, last.rank, last.title, last.why) == (2, 2, "On a2", ("you follow ann",))


def test_pages_stay_with_their_version_while_the_feed_moves(store: FeedStore, page: Page, user: str) -> None:
    write(store, user, 1, "a", 60)
    one = page(user, limit=20)
    write(store, user, 2, "b", 60)
    two = page(user, limit=20, cursor=one.cursor)
    write(store, user, 3, "c", 60)
    three = page(user, limit=20, cursor=two.cursor)
    assert ids(one) + ids(two) + ids(three) == items("a", 60)
    assert [p.restarted for p in (one, two, three)] == [False] * 3
    assert [p.page for p in (one, two, three)] == [0, 1, 2]
    assert [e.position for e in two.entries] == list(range(20))
    assert [e.rank for e in two.entries] == list(range(20, 40))


def test_the_same_cursor_gives_the_same_page_again(store: FeedStore, page: Page, user: str) -> None:
    write(store, user, 1, "a", 50)
    one = page(user, limit=10)
    assert page(user, limit=10, cursor=one.cursor) == page(user, limit=10, cursor=one.cursor)


def test_when_the_version_is_gone_the_newest_goes_on_and_says_so(
    store: FeedStore, page: Page, user: str
) -> None:
    write(store, user, 1, "a", 30)
    one = page(user, limit=10)
    store.redis.delete(store.names.pin(FOR_YOU, user))
    store.write(user, 2, [entry(i) for i in [*items("b", 5), *items("a", 30)]], now_ms())
    two = page(user, limit=10, cursor=one.cursor)
    assert two.restarted
    assert ids(two) == [*items("b", 5), "a10", "a11", "a12", "a13", "a14"]
    assert [(d.id, d.why, d.rank) for d in two.dropped] == [(f"a{i}", "served", 5 + i) for i in range(10)]
    again = page(user, limit=10, cursor=one.cursor)
    assert ids(again) == ids(two), "a retry after a lost response"
    assert not page(user, limit=10, cursor=two.cursor).restarted


def test_a_new_session_does_not_repeat_what_was_just_served(store: FeedStore, page: Page, user: str) -> None:
    write(store, user, 1, "a", 30)
    assert ids(page(user, limit=10)) == items("a", 10)
    again = page(user, limit=10)
    assert ids(again) == items("a", 20)[10:]
    assert {d.why for d in again.dropped} == {"served"}


def test_a_page_is_full_even_where_a_whole_window_was_served(store: FeedStore, page: Page, user: str) -> None:
    write(store, user, 1, "a", 200)
    page(user, limit=100)
    page(user, limit=70)
    assert ids(page(user, limit=10)) == items("a", 180)[170:]


def test_without_record_a_read_leaves_no_trace(store: FeedStore, page: Page, user: str) -> None:
    write(store, user, 1, "a", 30)
    for _ in range(2):
        assert ids(page(user, limit=10, record=False)) == items("a", 10)
    keys = [store.names.pin(FOR_YOU, user), store.names.served_ids(FOR_YOU, user)]
    assert store.redis.exists(*keys) == 0


def test_past_the_end_come_the_topic_and_then_the_world(store: FeedStore, page: Page, user: str) -> None:
    write(store, user, 1, "a", 3, topics='["jazz"]')
    store.write_fallback(1, ["a1", "j0", "j1"], now_ms(), topic="jazz")
    store.write_fallback(1, ["j1", "w0", "a2"], now_ms())
    seen, cursor = [], None
    while True:
        got = page(user, limit=2, cursor=cursor)
        seen.append((got.source, got.reason, ids(got)))
        cursor = got.cursor
        if cursor is None:
            break
    assert seen == [
        ("feed", "", ["a0", "a1"]),
        ("feed", "", ["a2"]),
        ("topic:jazz", "past_the_end", ["j0", "j1"]),
        ("global", "past_the_end", ["w0"]),
    ]


def test_nobodys_feed_is_the_global_one_labelled(
    store: FeedStore, page: Page, user: str, namespace: str
) -> None:
    store.write_fallback(4, items("w", 5), now_ms())
    got = page(user, limit=3)
    assert (got.source, got.reason, ids(got)) == ("global", "no_feed", ["w0", "w1", "w2"])
    assert got.slate_id == f"for_you:{namespace}:{version(4)}:0:global"
    rest = page(user, limit=3, cursor=got.cursor)
    assert (rest.reason, ids(rest), rest.cursor) == ("no_feed", ["w3", "w4"], None)


def test_a_fallback_that_was_refreshed_goes_on_without_repeats(
    store: FeedStore, page: Page, user: str
) -> None:
    store.write_fallback(1, items("w", 6), now_ms())
    one = page(user, limit=2)
    store.write_fallback(2, ["new", *items("w", 6)], now_ms())
    two = page(user, limit=2, cursor=one.cursor)
    assert (two.restarted, ids(two)) == (True, ["new", "w2"])


def test_an_empty_redis_is_an_empty_page(page: Page, user: str) -> None:
    got = page(user)
    assert (got.source, got.reason, got.version, got.entries, got.cursor) == (
        "global",
        "no_feed",
        "",
        (),
        None,
    )


def test_a_returning_user_gets_a_fallback_first_or_the_old_feed(
    store: FeedStore, page: Page, user: str
) -> None:
    days_ago = now_ms() - 3 * 86_400_000
    store.write(user, 1, [entry("old"), entry("older")], days_ago, topics='["jazz"]')
    got = page(user, limit=1)
    assert (got.source, got.stale, ids(got)) == ("feed", True, ["old"])
    store.write_fallback(1, ["j"], now_ms(), topic="jazz")
    got = page(user)
    assert (got.source, got.reason, ids(got)) == ("topic:jazz", "returning", ["j"])
    inspected = page(user, record=False)
    assert (inspected.source, ids(inspected)) == ("feed", ["old", "older"])


def test_a_feed_that_should_have_been_renewed_says_so(store: FeedStore, page: Page, user: str) -> None:
    store.write(user, 1, [entry("a")], now_ms() - 120_000)
    assert page(user).stale


def test_min_version_raises_or_falls_back(store: FeedStore, page: Page, user: str) -> None:
    write(store, user, 5, "a", 3)
    store.write_fallback(1, ["w"], now_ms())
    assert ids(page(user, min_version=version(5), record=False)) == items("a", 3)
    with pytest.raises(OlderThanAskedError, match="older than"):
        page(user, min_version=version(6))
    got = page(user, min_version=version(6), older="fallback")
    assert (got.source, got.reason) == ("global", "older_than_min_version")


def test_min_version_ends_a_session_in_an_older_one(store: FeedStore, page: Page, user: str) -> None:
    write(store, user, 1, "a", 30)
    one = page(user, limit=10)
    write(store, user, 2, "b", 30)
    two = page(user, limit=10, cursor=one.cursor, min_version=version(2))
    assert (two.restarted, two.version, ids(two)) == (True, version(2), items("b", 10))


def test_hidden_items_authors_and_topics_are_left_out(
    store: FeedStore, page: Page, user: str, redis_url: str
) -> None:
    rows = [entry("i0"), entry("i1", "bob"), entry("i2", topics=["chess"]), entry("i3")]
    store.write(user, 1, rows, now_ms())
    with_hide = FeedReader.from_url(redis_url)
    with_hide.hide(user, "item", "i0")
    with_hide.hide(user, "author", "bob")
    with_hide.hide(user, "topic", "chess")
    got = page(user, record=False)
    assert ids(got) == ["i3"]
    assert [(d.id, d.why) for d in got.dropped] == [("i0", "hidden"), ("i1", "hidden"), ("i2", "hidden")]
    with_hide.unhide(user, "author", "bob")
    assert ids(page(user, record=False)) == ["i1", "i3"]
    with_hide.close()


def test_a_damaged_feed_is_labelled_and_others_go_on(store: FeedStore, page: Page, user: str) -> None:
    write(store, user, 1, "a", 3)
    store.redis.hset(store.names.feed(FOR_YOU, user), "p0", "[{}]")
    store.write_fallback(1, ["w"], now_ms())
    got = page(user)
    assert (got.source, got.reason, ids(got)) == ("global", "damaged", ["w"])


def test_a_feed_with_a_chunk_missing_ends_there(store: FeedStore, page: Page, user: str) -> None:
    write(store, user, 1, "a", 60)
    store.redis.hdel(store.names.feed(FOR_YOU, user), "p1")
    assert ids(page(user, limit=40)) == items("a", 25)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"surface": "nowhere"}, "choose of for_you, following"),
        ({"limit": 0}, "choose 1 to 100"),
        ({"limit": 101}, "choose 1 to 100"),
        ({"min_version": "3"}, "not a feed version"),
        ({"topic": ""}, "1 to 128"),
    ],
)
def test_wrong_requests_say_what_to_do(page: Page, options: dict[str, Any], says: str) -> None:
    with pytest.raises(WrongRequestError, match=says):
        page("ann", **options)


@pytest.mark.parametrize("wrong", ["", "x" * 129, "\ud800"])
def test_wrong_users_are_refused(page: Page, wrong: str) -> None:
    with pytest.raises(WrongRequestError, match="user id"):
        page(wrong)


def test_a_cursor_of_another_user_is_refused(store: FeedStore, page: Page, user: str) -> None:
    write(store, user, 1, "a", 30)
    cursor = page(user).cursor
    with pytest.raises(WrongCursorError, match="another user"):
        page("someone else", cursor=cursor)


def test_no_redis_is_one_typed_error() -> None:
    with pytest.raises(FeedsUnavailableError, match="REDIS_URL"):
        FeedReader.from_url(f"redis://127.0.0.1:{free_port()}/0").page("ann")


Seen = Callable[[str], str]


def test_the_route_decides_and_a_promote_restarts_sessions(private_redis: Redis) -> None:
    live, other = FeedStore(private_redis.url, "live"), FeedStore(private_redis.url, "next")
    write(live, "ann", 9, "a", 30)
    write(other, "ann", 1, "b", 30, generation=2)
    before = FeedReader.from_url(private_redis.url, namespace="live")
    one = before.page("ann", limit=10)
    assert one.namespace == "live"
    live.set_route(Route(1, 2, "live", (Split("next", 1.0, "s"),)))
    after = FeedReader.from_url(private_redis.url, namespace="live")
    two = after.page("ann", limit=10, cursor=one.cursor, min_version=one.version)
    assert (two.namespace, two.restarted, ids(two)) == ("next", True, items("b", 10))
    before.close()
    after.close()


def test_a_session_sees_nothing_twice_through_a_promote_and_a_rollback(private_redis: Redis) -> None:
    """The namespaces rank the same items, as a live one and its shadow do."""
    live, shadow = FeedStore(private_redis.url, "live"), FeedStore(private_redis.url, "next")
    write(live, "ann", 9, "a", 60)
    write(shadow, "ann", 1, "a", 60)
    shown: list[str] = []
    cursor: str | None = None
    for number, default in enumerate(("live", "live", "next", "next", "live", "next"), 1):
        live.set_route(Route(number, number, default))
        reader = FeedReader.from_url(private_redis.url)
        page = reader.page("ann", limit=10, cursor=cursor)
        if cursor:  # an answer that was lost: the same page again
            assert ids(reader.page("ann", limit=10, cursor=cursor)) == ids(page)
        assert (page.namespace, page.source, len(page.entries)) == (default, "feed", 10)
        assert page.restarted == (number in (3, 5, 6))
        shown, cursor = shown + ids(page), page.cursor
        reader.close()
    assert len(set(shown)) == len(shown) == 60


def test_a_broken_route_leaves_readers_where_they_were(
    private_redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    store = FeedStore(private_redis.url, "live")
    store.redis.set("feedrank:route", "nonsense")
    reader = FeedReader.from_url(private_redis.url, namespace="live")
    assert reader.page("ann").namespace == "live"
    assert "set it again" in caplog.text
    reader.close()


def test_a_client_that_decodes_replies_is_fine_too(store: FeedStore, user: str, redis_url: str) -> None:
    import redis

    write(store, user, 1, "a", 30)
    reader = FeedReader(
        redis.Redis.from_url(redis_url, decode_responses=True), namespace=Namespace(store.names.name).name
    )
    one = reader.page(user, limit=10)
    assert ids(reader.page(user, limit=10, cursor=one.cursor)) == items("a", 20)[10:]
    reader.close()
