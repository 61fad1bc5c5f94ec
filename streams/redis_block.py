"""Redis as commands use it: for one `with` block, whose failures are one message for the operator."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from redis import Redis, RedisCluster
from redis.exceptions import RedisError

from streams.concerns import RedisSettings
from streams.errors import ExitCode, OperatorError


class RedisBlock:
    """A `with` block over a Redis or a Cluster. Raises OperatorError where it does not answer."""

    def __init__(self, settings: RedisSettings) -> None:
        kind: Any = RedisCluster if settings.cluster else Redis
        seconds = settings.timeout_ms / 1_000
        self._redis: Any = kind.from_url(
            settings.address, socket_timeout=seconds, socket_connect_timeout=seconds
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self._redis, RedisCluster):
            self._redis.disconnect_connection_pools()  # type: ignore[no-untyped-call]  # its close() leaves the nodes' sockets open
        self._redis.close()
        if isinstance(error, RedisError | OSError):
            raise OperatorError(
                f"Redis: {str(error).rstrip('.')}; check REDIS_URL", ExitCode.REDIS_UNREACHABLE
            ) from error
