"""Pipelines on connections of their own, against a real Redis: whose reply is whose, whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError, TimeoutError  # noqa: A004

from streams.redis_pipelines import Pipelines
from tests.services import Redis

DEADLINE_S = 0.3
BLOCKS = ("BLPOP", "pipelines:never", 60)


def with_pipelines(url: str, use: Callable[[Pipelines], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        client = AsyncRedis.from_url(url, socket_timeout=DEADLINE_S, retry=Retry(NoBackoff(), 1))
        pipelines = Pipelines(client, DEADLINE_S)
        try:
            return await use(pipelines)
        finally:
            await pipelines.close()
            await pipelines.close()
            await client.aclose()

    return asyncio.run(run())


def echo(*words: object) -> list[tuple[object, ...]]:
    return [("ECHO", word) for word in words]


def test_replies_are_in_order_and_errors_are_replies(redis_url: str) -> None:
    commands = [*echo("a"), ("NO SUCH COMMAND",), *echo(b"\xff\r\n", "ü", 3, 0.5)]
    first, error, *others = with_pipelines(redis_url, lambda pipelines: pipelines.run(commands))
    assert isinstance(error, ResponseError)
    assert [first, *others] == [b"a", b"\xff\r\n", "ü".encode(), b"3", b"0.5"]


def test_pipelines_side_by_side_get_their_own_replies_and_keep_their_connections(
    private_redis: Redis,
) -> None:
    plain = redis.Redis.from_url(private_redis.url)

    async def use(pipelines: Pipelines) -> None:
        for _ in range(3):
            wanted = [[f"{part}-{n}".encode() * 5_000 for n in range(20)] for part in range(4)]
            assert await asyncio.gather(*(pipelines.run(echo(*words)) for words in wanted)) == wanted
        assert len(plain.client_list()) == 4 + 1

    with_pipelines(private_redis.url, use)


def test_a_server_that_does_not_answer_in_time_is_asked_again_on_a_new_connection(redis_url: str) -> None:
    async def use(pipelines: Pipelines) -> None:
        await pipelines.run(echo("a"))
        with pytest.raises(TimeoutError, match=f"no answer within {DEADLINE_S} s"):
            await pipelines.run([*echo("b"), BLOCKS])
        assert await pipelines.run(echo("c")) == [b"c"]

    with_pipelines(redis_url, use)


def test_who_is_cancelled_leaves_no_replies_to_the_next(redis_url: str) -> None:
    async def use(pipelines: Pipelines) -> None:
        waiting = asyncio.create_task(pipelines.run([*echo("a"), BLOCKS, *echo("b")]))
        await asyncio.sleep(DEADLINE_S / 3)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await pipelines.run(echo("c")) == [b"c"]

    with_pipelines(redis_url, use)


def test_a_connection_that_the_server_closed_meanwhile_is_opened_again(private_redis: Redis) -> None:
    plain = redis.Redis.from_url(private_redis.url)

    async def use(pipelines: Pipelines) -> None:
        assert await pipelines.run(echo("a")) == [b"a"]
        plain.client_kill_filter(_type="normal", skipme=True)
        assert await pipelines.run(echo("b")) == [b"b"]

    with_pipelines(private_redis.url, use)
