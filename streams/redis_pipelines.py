"""Pipelines to one Redis server (11): packed in C, and all replies read within one deadline.

redis-py's own packs every argument in Python and sets a timer for every reply: of what writing a feed costs,
that was more than half. Its connections do the rest: addresses, TLS, passwords, reconnecting.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as NoAnswerError


class Pipelines:
    """Runs pipelines side by side, each on a connection of its own that is kept for the next one."""

    def __init__(self, client: Redis, deadline_s: float) -> None:
        self._pool: Any = client.connection_pool
        self._deadline_s = deadline_s
        self._free: list[Any] = []

    async def run(self, commands: Sequence[tuple[Any, ...]]) -> list[object]:
        """One reply per command, in order, errors among them. Raises what redis-py raises when the server is
        not there, refuses the connection or does not answer in time."""
        packed = [hiredis.pack_command(command) for command in commands]
        connection = self._free.pop() if self._free else self._pool.make_connection()
        try:
            replies: list[object] = await connection.retry.call_with_retry(
                lambda: self._exchange(connection, packed), lambda _: connection.disconnect()
            )
        finally:
            self._free.append(connection)
        return replies

    async def _exchange(self, connection: Any, packed: list[bytes]) -> list[object]:
        """A connection on which this fails is closed, and opened by the next that sends on it."""
        await connection.send_packed_command(packed)
        replies: list[object] = []
        try:
            async with asyncio.timeout(self._deadline_s):
                for _ in packed:
                    try:
                        replies.append(await connection.read_response(timeout=math.inf))
                    except ResponseError as error:
                        replies.append(error)
        except TimeoutError:
            raise NoAnswerError(f"no answer within {self._deadline_s} s") from None
        return replies

    async def close(self) -> None:
        """Close connections; harmless twice."""
        while self._free:
            await self._free.pop().disconnect()
