"""FeedReader and AsyncFeedReader: pages of feeds from Redis, for any feed API (read side).

    reader = FeedReader.from_url("redis://localhost:6379/0")
    page = reader.page("ann", limit=20)
    more = reader.page("ann", limit=20, cursor=page.cursor)

Both do what `serving.plan` says; they differ in how commands reach Redis. A reader may be shared by threads
(FeedReader) or tasks (AsyncFeedReader).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal, Self, TypedDict, Unpack

from redis import Redis, RedisCluster
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.exceptions import RedisError

from serving.checks import check_id
from serving.errors import FeedsUnavailableError
from serving.marks import Command, Kind, hide_commands, unhide_commands
from serving.pages import FeedPage, PageRequest
from serving.plan import Batch, page_plan
from serving.routing import READ_ROUTE, Routing
from serving.stored import Reply

NAMESPACE_DEFAULT = "live"
TIMEOUT_S = 2.0


class PageOptions(TypedDict, total=False):
    """Options of `page`; see PageRequest for their meaning."""

    surface: str
    limit: int
    cursor: str | None
    min_version: str | None
    older: Literal["raise", "fallback"]
    topic: str | None
    record: bool


class FeedReader:
    """Reads feeds through a sync client (Redis or RedisCluster).

    `namespace` is read where Redis holds no route.
    """

    def __init__(self, client: Redis | RedisCluster, namespace: str = NAMESPACE_DEFAULT) -> None:
        self._client: Any = client
        self._transactions = not isinstance(client, RedisCluster)
        self._routing = Routing(namespace)

    @classmethod
    def from_url(
        cls, url: str, cluster: bool = False, namespace: str = NAMESPACE_DEFAULT, timeout_s: float = TIMEOUT_S
    ) -> Self:
        """Connects lazily. Raises ValueError for a wrong URL."""
        kind: Any = RedisCluster if cluster else Redis
        return cls(kind.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s), namespace)

    def page(self, user: str, **options: Unpack[PageOptions]) -> FeedPage:
        """One page of a user's feed, or of a fallback, labelled.

        Raises WrongRequestError, WrongCursorError, OlderThanAskedError, FeedsUnavailableError.
        """
        namespace = self._namespace(user)
        plan = page_plan(PageRequest(user, **options), namespace, _now_ms(), self._routing.generation)
        batch = next(plan)
        while True:
            replies = self._run(batch)
            try:
                batch = plan.send(replies)
            except StopIteration as end:
                page: FeedPage = end.value
                return page

    def hide(self, user: str, kind: Kind, name: str) -> None:
        """Keep an item, an author or a topic from this user at once. Raises FeedsUnavailableError."""
        check_id(kind, name)
        self._run(Batch(tuple(hide_commands(user, kind, name, _now_ms()))))

    def unhide(self, user: str, kind: Kind, name: str) -> None:
        """Undo `hide`. Raises FeedsUnavailableError."""
        self._run(Batch(tuple(unhide_commands(user, kind, name))))

    def ping(self) -> None:
        """Raises FeedsUnavailableError when Redis does not answer."""
        self._run(Batch((READ_ROUTE,), atomic=False))

    def close(self) -> None:
        """Close connections."""
        if isinstance(self._client, RedisCluster):
            self._client.disconnect_connection_pools()  # type: ignore[no-untyped-call]  # its close() leaves the nodes' sockets open
        self._client.close()

    def _namespace(self, user: str) -> str:
        check_id("user", user)
        now_s = time.monotonic()
        if self._routing.outdated(now_s):
            self._routing.learn(self._run(Batch((READ_ROUTE,), atomic=False))[0], now_s)
        return self._routing.namespace(user)

    def _run(self, batch: Batch) -> list[Reply]:
        try:
            pipe = self._client.pipeline(transaction=batch.atomic and self._transactions)
            _queue(pipe, batch.commands)
            replies: list[Reply] = pipe.execute()
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        return replies


class AsyncFeedReader:
    """Reads feeds through an async client (redis.asyncio). Otherwise as FeedReader."""

    def __init__(self, client: AsyncRedis | AsyncRedisCluster, namespace: str = NAMESPACE_DEFAULT) -> None:
        self._client: Any = client
        self._transactions = not isinstance(client, AsyncRedisCluster)
        self._routing = Routing(namespace)

    @classmethod
    def from_url(
        cls, url: str, cluster: bool = False, namespace: str = NAMESPACE_DEFAULT, timeout_s: float = TIMEOUT_S
    ) -> Self:
        """Connects lazily. Raises ValueError for a wrong URL."""
        kind: Any = AsyncRedisCluster if cluster else AsyncRedis
        return cls(kind.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s), namespace)

    async def page(self, user: str, **options: Unpack[PageOptions]) -> FeedPage:
        """See FeedReader.page."""
        namespace = await self._namespace(user)
        plan = page_plan(PageRequest(user, **options), namespace, _now_ms(), self._routing.generation)
        batch = next(plan)
        while True:
            replies = await self._run(batch)
            try:
                batch = plan.send(replies)
            except StopIteration as end:
                page: FeedPage = end.value
                return page

    async def hide(self, user: str, kind: Kind, name: str) -> None:
        """See FeedReader.hide."""
        check_id(kind, name)
        await self._run(Batch(tuple(hide_commands(user, kind, name, _now_ms()))))

    async def unhide(self, user: str, kind: Kind, name: str) -> None:
        """See FeedReader.unhide."""
        await self._run(Batch(tuple(unhide_commands(user, kind, name))))

    async def ping(self) -> None:
        """See FeedReader.ping."""
        await self._run(Batch((READ_ROUTE,), atomic=False))

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()

    async def _namespace(self, user: str) -> str:
        check_id("user", user)
        now_s = time.monotonic()
        if self._routing.outdated(now_s):
            self._routing.learn((await self._run(Batch((READ_ROUTE,), atomic=False)))[0], now_s)
        return self._routing.namespace(user)

    async def _run(self, batch: Batch) -> list[Reply]:
        try:
            pipe = self._client.pipeline(transaction=batch.atomic and self._transactions)
            _queue(pipe, batch.commands)
            replies: list[Reply] = await pipe.execute()
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        return replies


def _queue(pipe: Any, commands: Sequence[Command]) -> None:
    for command in commands:
        pipe.execute_command(*command)


def _unavailable(error: Exception) -> FeedsUnavailableError:
    what = str(error) or type(error).__name__
    return FeedsUnavailableError(f"Redis: {what}; try again, and check REDIS_URL where it persists")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
