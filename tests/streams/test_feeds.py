"""The feed writer against a real Redis: outcomes, notifications, losses, outages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
import redis

from streams.concerns import RedisSettings
from streams.feeds import (
    BACKOFF_MAX_S,
    SLICE_FEEDS_MAX,
    FeedToWrite,
    FeedWriter,
    Outcome,
    RedisUnavailableError,
)
from tests.services import Redis, free_port
from tests.waiting import GUARD_S
from wire.chunks import Entries, Entry
from wire.names import Namespace
from wire.version import Version

NOW_MS = 1_700_000_000_000


def feed(user: str, number: int = 1, entries: int = 2, surface: str = "for_you") -> FeedToWrite:
    rows = Entries.of([Entry(f"i{i}", "ann", 1, 0.5, "trending") for i in range(entries)])
    text = str(Version(1, number, 0, 0))
    return FeedToWrite(user, surface, text, NOW_MS, NOW_MS + 60_000, "p", "m", rows, ("jazz",))


def settings(url: str) -> RedisSettings:
    """A Redis that is there answers in this time on a busy machine too; one that is not refuses at once."""
    return RedisSettings(REDIS_URL=url, REDIS_TIMEOUT_MS="60000")  # type: ignore[call-arg]


def with_writer(url: str, namespace: str, use: Callable[[FeedWriter], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        writer = FeedWriter(settings(url), Namespace(namespace))
        try:
            return await use(writer)
        finally:
            await writer.close()

    return asyncio.run(run())


@pytest.fixture
def plain(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url, decode_responses=True)


def test_feeds_of_many_slices_are_written_in_order(
    redis_url: str, namespace: str, plain: redis.Redis
) -> None:
    users = [f"u{i}" for i in range(2 * SLICE_FEEDS_MAX + 3)]

    async def use(writer: FeedWriter) -> None:
        assert await writer.write([feed(u) for u in users]) == [Outcome.WRITTEN] * len(users)
        assert await writer.read_versions("for_you", ["u1", "nobody"]) == [feed("u1").version, None]

    with_writer(redis_url, namespace, use)
    head = plain.hgetall(Namespace(namespace).feed("for_you", users[-1]))
    assert head["count"] == "2"  # type: ignore[index]
    assert head["topics"] == '["jazz"]'  # type: ignore[index]


def test_older_and_repeated_feeds_are_told_apart(redis_url: str, namespace: str) -> None:
    async def use(writer: FeedWriter) -> list[Outcome]:
        await writer.write([feed("a", 5), feed("b", 5), feed("c", 5)])
        return await writer.write([feed("a", 4), feed("b", 5), feed("c", 6)])

    assert with_writer(redis_url, namespace, use) == [
        Outcome.REFUSED_OLDER,
        Outcome.ALREADY,
        Outcome.WRITTEN,
    ]


def test_a_key_that_holds_something_else_fails_alone(
    redis_url: str, namespace: str, plain: redis.Redis
) -> None:
    plain.set(Namespace(namespace).feed("for_you", "b"), "not a hash")

    async def use(writer: FeedWriter) -> list[Outcome]:
        return await writer.write([feed("a"), feed("b"), feed("c")])

    assert with_writer(redis_url, namespace, use) == [Outcome.WRITTEN, Outcome.FAILED, Outcome.WRITTEN]


def test_what_was_written_is_announced_and_what_was_refused_is_not(
    redis_url: str, namespace: str, plain: redis.Redis
) -> None:
    channel = Namespace(namespace).changed
    listener = plain.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(channel)
    listener.get_message(timeout=GUARD_S)

    async def use(writer: FeedWriter) -> None:
        await writer.write([feed("a", 2)])
        await writer.write([feed("a", 1), feed("b", 1, surface="following")])

    with_writer(redis_url, namespace, use)
    first, second = (orjson.loads(fields["feeds"]) for _, fields in plain.xrange(channel))  # type: ignore[union-attr, misc]
    assert first == [["a", "for_you", feed("a", 2).version]]
    assert second == [["b", "following", feed("b", 1).version]]
    heard = listener.get_message(timeout=GUARD_S)
    listener.close()
    assert heard is not None
    assert orjson.loads(heard["data"]) == first


def test_a_wrong_version_is_refused_before_anything_is_sent(redis_url: str, namespace: str) -> None:
    wrong = feed("a")
    object.__setattr__(wrong, "version", "7")
    with pytest.raises(ValueError, match="not a feed version"):
        with_writer(redis_url, namespace, lambda writer: writer.write([wrong]))


def test_fallbacks_move_forward_too(redis_url: str, namespace: str, plain: redis.Redis) -> None:
    async def use(writer: FeedWriter) -> list[Outcome]:
        two, one = feed("", 2), feed("", 1)
        return [
            await writer.write_fallback("for_you", None, two.version, NOW_MS, two.entries),
            await writer.write_fallback("for_you", None, one.version, NOW_MS, one.entries),
            await writer.write_fallback("for_you", "jazz", one.version, NOW_MS, one.entries),
        ]

    assert with_writer(redis_url, namespace, use) == [
        Outcome.WRITTEN,
        Outcome.REFUSED_OLDER,
        Outcome.WRITTEN,
    ]
    assert plain.hget(f"feed:{namespace}:for_you:topic:jazz", "count") == "2"


def test_a_script_that_the_server_forgot_is_loaded_again(
    redis_url: str, namespace: str, plain: redis.Redis
) -> None:
    async def use(writer: FeedWriter) -> list[Outcome]:
        await writer.write([feed("a", 1)])
        plain.script_flush()
        return await writer.write([feed("a", 2), feed("b", 1)])

    assert with_writer(redis_url, namespace, use) == [Outcome.WRITTEN] * 2


def test_an_outage_is_typed_backs_off_and_ends(private_redis: Redis, namespace: str) -> None:
    waits: list[float] = []

    def waiting(error: RedisUnavailableError) -> None:
        assert "REDIS_URL" in str(error)
        waits.append(error.retry_after_s)
        if len(waits) == 2:
            private_redis.start()

    async def use(writer: FeedWriter) -> tuple[list[Outcome], int]:
        await writer.write([feed("a", 1)])
        assert writer.losses == 1
        private_redis.kill()
        return await writer.write_patiently([feed("a", 1)], waiting), writer.losses

    outcomes, losses = with_writer(private_redis.url, namespace, use)
    assert outcomes == [Outcome.WRITTEN]
    assert losses == 2, "the server came back empty: every feed is due again"
    assert waits == sorted(waits)
    assert waits[0] < waits[-1] <= BACKOFF_MAX_S


def test_every_worker_hears_of_a_redis_that_came_back_empty(
    private_redis: Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that writes nothing, and one that looks when another has marked the new one already."""
    monkeypatch.setattr("streams.feeds.PRESENCE_CHECK_S", 0.0)

    async def use(writer: FeedWriter) -> tuple[int, int]:
        other = FeedWriter(settings(private_redis.url), Namespace(namespace))
        await writer.start()
        await other.start()
        before = writer.losses + other.losses
        redis.Redis.from_url(private_redis.url).flushall()
        for _ in range(2):
            await writer.look()
            await other.look()
        await other.close()
        return before, writer.losses + other.losses

    assert with_writer(private_redis.url, namespace, use) == (1, 3)


def test_no_redis_at_start_says_where_and_what_to_do(namespace: str) -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with pytest.raises(RedisUnavailableError, match=r"redis://127\.0\.0\.1.*REDIS_URL") as caught:
        with_writer(url, namespace, lambda writer: writer.start())
    assert "secret" not in str(caught.value)


def test_a_full_redis_is_an_outage_not_a_lost_feed(private_redis: Redis, namespace: str) -> None:
    plain = redis.Redis.from_url(private_redis.url)

    async def use(writer: FeedWriter) -> None:
        await writer.write([feed("a", 1)])
        plain.config_set("maxmemory", "1")
        with pytest.raises(RedisUnavailableError, match="maxmemory"):
            await writer.write([feed("b")])
        plain.config_set("maxmemory", "0")
        assert await writer.write([feed("b")]) == [Outcome.WRITTEN]

    with_writer(private_redis.url, namespace, use)
