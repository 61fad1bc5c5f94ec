"""One connection to Redis or a Redis Cluster that runs pipelines of commands and scripts (11).

A script travels as its digest; where a server does not know it (restart, failover, new node) it is loaded
and only the commands that were refused are sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterError,
    ConnectionError,  # noqa: A004
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TimeoutError,  # noqa: A004
    TryAgainError,
)

from streams.concerns import RedisSettings
from streams.redis_pipelines import Pipelines
from wire.scripts import Script

Command = tuple[Any, ...]
"""("HGET", key, field), or (Script, keys, arg, ...)."""

CONNECTIONS_MAX = 8
RECONNECTS = 1
_DOWN = (ConnectionError, TimeoutError, RedisClusterException, OSError, asyncio.TimeoutError)
_NOT_NOW = (
    ConnectionError,
    TimeoutError,
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ClusterError,
    TryAgainError,
    MovedError,
    AskError,
)
"""Replies that are about the server, not about one key: the whole write has to wait."""
_MOVING_TEXT = "attempted to access a non local key"
"""Of a script whose slot is on its way to another node: some of its keys are there, some are not."""
_NOT_NOW_TEXT = ("OOM command not allowed", "READONLY ", "MISCONF ", "NOREPLICAS ", _MOVING_TEXT)
"""The same from inside a script, where older servers wrap the reply's code in a sentence."""


class RedisUnavailableError(Exception):
    """Redis did not take the commands within the deadline. Nothing is lost: keep them and try again.

    `retry_after_s` grows with consecutive failures.
    """

    def __init__(self, message: str, retry_after_s: float = 0.1) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class RedisLink:
    """Lazily connected; reconnects by itself. `address` has no password in it."""

    def __init__(self, settings: RedisSettings) -> None:
        self.address = _without_secret(settings.address)
        deadline_s = settings.timeout_ms / 1_000
        shared: dict[str, Any] = {
            "socket_timeout": deadline_s,
            "socket_connect_timeout": deadline_s,
            "max_connections": CONNECTIONS_MAX,
            "retry": Retry(NoBackoff(), RECONNECTS),
        }
        self._client: Any
        self._pipelines: Pipelines | None = None
        if settings.cluster:
            self._client = RedisCluster.from_url(settings.address, **shared)
        else:
            self._client = Redis.from_url(settings.address, **shared)
            self._pipelines = Pipelines(self._client, deadline_s)

    async def close(self) -> None:
        """Close connections; harmless twice."""
        if self._pipelines is not None:
            await self._pipelines.close()
        await self._client.aclose()

    async def run(self, commands: Sequence[Command]) -> list[object]:
        """One reply per command, in order; an error that concerns one key is returned as its reply.

        Raises RedisUnavailableError.
        """
        replies = await self._pipeline(commands)
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            await self._load({commands[i][0] for i in unknown})
            again = await self._pipeline([commands[i] for i in unknown])
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
        return replies

    async def run_all(self, pipelines: Sequence[Sequence[Command]]) -> list[list[object]]:
        """As `run`, several at once, each on a connection of its own (there are CONNECTIONS_MAX); all have
        ended when it returns or raises."""
        found = await asyncio.gather(*map(self.run, pipelines), return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return found  # type: ignore[return-value]

    async def _pipeline(self, commands: Sequence[Command]) -> list[object]:
        try:
            replies = await self._replies([_arguments(command) for command in commands])
        except (*_DOWN, ResponseError) as error:  # raised, so it refuses the connection, not one command
            raise self._unavailable(error) from error
        for reply in replies:
            if isinstance(reply, Exception) and _not_now(reply):
                raise self._unavailable(reply) from reply
        return replies

    async def _replies(self, commands: list[Command]) -> list[object]:
        if self._pipelines is not None:
            return await self._pipelines.run(commands)
        pipe = self._client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        replies: list[object] = await pipe.execute(raise_on_error=False)
        return replies

    async def _load(self, scripts: set[Script]) -> None:
        try:
            for script in scripts:
                await self._client.script_load(script.text)
        except (*_DOWN, *_NOT_NOW) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> RedisUnavailableError:
        what = str(error).rstrip(".") or type(error).__name__
        return RedisUnavailableError(f"Redis at {self.address}: {what}; {_advice(error)}")


def _arguments(command: Command) -> Command:
    if isinstance(command[0], Script):
        script, keys, *arguments = command
        return ("EVALSHA", script.sha, len(keys), *keys, *arguments)
    return command


def _not_now(reply: Exception) -> bool:
    return isinstance(reply, _NOT_NOW) or any(text in str(reply) for text in _NOT_NOW_TEXT)


def _advice(error: Exception) -> str:
    if isinstance(error, OutOfMemoryError) or "OOM command" in str(error):
        return "raise maxmemory or choose an eviction policy; feeds wait"
    if isinstance(error, AuthenticationError | NoPermissionError):
        return "correct the user and password in REDIS_URL; feeds wait"
    if isinstance(error, ReadOnlyError):
        return "REDIS_URL names a replica, or a failover is going on; feeds wait"
    if type(error) in (ClusterError, TryAgainError) or _MOVING_TEXT in str(error):
        return "a slot of the Cluster is being moved; feeds wait until it has arrived"
    if type(error) is ResponseError:
        return "correct REDIS_URL (its database, its protocol) or the server; feeds wait"
    return "start it or correct REDIS_URL; feeds wait and nothing is lost"


def _without_secret(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}".partition("?")[0]
