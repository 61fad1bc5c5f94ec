"""A real redis-server on a socket, with the network between it and the workers in the seed's hands."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hiredis
import redis
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as TooSlow

from tests.services import dies_with_us, redis_binary
from tests.simulation.network import Network

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

START_S = 180.0
REFUSED_S = 0.01
READ_BYTES = 1 << 16
READS = {"GET", "HGETALL"}
"""What workers poll: more than half of all commands, most of them answered as before."""


class RedisServer:
    """One for all seeds of a process; each seed begins with it empty."""

    def __init__(self, directory: Path) -> None:
        socket_path = directory / "redis.sock"
        command = [redis_binary(), "--port", "0", "--unixsocket", str(socket_path), "--save", "", "--dir"]
        self._process = subprocess.Popen(
            dies_with_us([*command, str(directory)]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.client = redis.Redis(unix_socket_path=str(socket_path))
        deadline_s = time.monotonic() + START_S
        while not self._answers():
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"redis-server at {socket_path} does not answer after {START_S:.0f} s")
            time.sleep(0.01)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(socket_path))
        self._reader = hiredis.Reader(replyError=_error)
        self._read: dict[tuple[Any, ...], Any] = {}
        self.ask([("HELLO", 3)])

    def ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """A reply to each, errors among them; a quarter of what redis-py's pipelines cost.

        What was read since the last write is not read again: each time the server would be woken up.
        """
        alone = commands[0] if len(commands) == 1 and commands[0][0] in READS else None
        if alone is None:
            self._read.clear()
        elif alone in self._read:
            return [self._read[alone]]
        replies = self._exchange(commands)
        if alone is not None:
            (self._read[alone],) = replies
        return replies

    def _exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        packed = (hiredis.pack_command((*str(c[0]).split(), *c[1:])) for c in commands)
        self._socket.sendall(b"".join(packed))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            while reply is False:  # not all of it has come
                self._reader.feed(self._socket.recv(READ_BYTES))
                reply = self._reader.gets()
            replies.append(reply)
        return replies

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def stop(self) -> None:
        self._socket.close()
        self.client.close()
        self._process.terminate()
        self._process.wait()


def _error(text: str) -> ResponseError:
    """As redis-py tells them apart, as far as it matters here."""
    return NoScriptError(text) if text.startswith("NOSCRIPT ") else ResponseError(text)


class SimRedisServer:
    """The server as one seed has it. `newest`: by head, the newest version that was ever there."""

    def __init__(self, simulation: Simulation, real: RedisServer) -> None:
        self.simulation, self._real = simulation, real
        self.network = Network(simulation.loop, "redis")
        self.newest: dict[str, bytes] = {}
        real.ask([("FLUSHALL",), ("SCRIPT FLUSH",)])

    @property
    def client(self) -> Any:
        """For those who look at it from outside."""
        return self._real.client

    def from_url(self, url: str, **_: Any) -> SimRedis:
        """As `redis.asyncio.Redis.from_url`."""
        return SimRedis(self)

    def empty(self) -> None:
        """It lost its data."""
        self._real.ask([("FLUSHALL",)])
        self.newest.clear()

    def forget_scripts(self) -> None:
        """It was restarted with its data."""
        self._real.ask([("SCRIPT", "FLUSH")])

    def run(self, commands: Sequence[tuple[Any, ...]], transaction: bool) -> list[Any]:
        """Replies, errors among them. Whoever polls a head sees no version go back."""
        heads = sorted({str(c[3]) for c in commands if c[0] == "EVALSHA" and c[2]})
        asked = [*commands, *(("HGET", head, "version") for head in heads)]
        replies: list[Any]
        if transaction:
            replies = self._real.ask([("MULTI",), *asked, ("EXEC",)])[-1]
        else:
            replies = self._real.ask(asked)
        for head, version in zip(heads, replies[len(commands) :], strict=True):
            if isinstance(version, bytes):
                before = self.newest.get(head, b"")
                self.simulation.demand(version >= before, f"{head} went back from {before!r} to {version!r}")
                self.newest[head] = version
        return replies[: len(commands)]

    async def ask(self, commands: Sequence[tuple[Any, ...]], transaction: bool = False) -> list[Any]:
        """The same over the network. Raises what redis-py raises."""
        fate = self.simulation.faults.fate("redis")
        if self.network.down_until > self.network.loop.time():
            await asyncio.sleep(REFUSED_S)
            raise Unreachable("connection refused")
        if fate == "lost":
            await asyncio.sleep(self.network.delay_s())
            raise TooSlow("no answer")
        replies: list[Any] = await self.network.ask(self.run, commands, transaction)
        if fate == "answer lost":
            raise TooSlow("no answer")
        return replies


class _Pipeline:
    """redis-py's, as far as it is used."""

    def __init__(self, server: SimRedisServer, transaction: bool) -> None:
        self._server, self._transaction = server, transaction
        self._commands: list[tuple[Any, ...]] = []

    async def __aenter__(self) -> _Pipeline:
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._commands.clear()

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    def delete(self, *keys: str) -> None:
        self.execute_command("DEL", *keys)

    def set(self, key: str, value: bytes, ex: int) -> None:
        self.execute_command("SET", key, value, "EX", ex)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        replies = await self._server.ask(self._commands, self._transaction)
        self._commands = []
        for reply in replies if raise_on_error else ():
            if isinstance(reply, ResponseError):
                raise reply
        return replies


class SimRedis:
    """What stands in for `redis.asyncio.Redis`."""

    def __init__(self, server: SimRedisServer) -> None:
        self._server = server

    def pipeline(self, transaction: bool = True) -> _Pipeline:
        return _Pipeline(self._server, transaction)

    async def _one(self, *command: Any) -> Any:
        (reply,) = await self._server.ask([command])
        if isinstance(reply, (NoScriptError, ResponseError)):
            raise reply
        return reply

    async def script_load(self, text: str) -> Any:
        return await self._one("SCRIPT LOAD", text)

    async def get(self, key: str) -> Any:
        return await self._one("GET", key)

    async def delete(self, key: str) -> Any:
        return await self._one("DEL", key)

    async def hset(self, key: str, field: str, value: str) -> Any:
        return await self._one("HSET", key, field, value)

    async def hgetall(self, key: str) -> Any:
        return await self._one("HGETALL", key)

    async def expire(self, key: str, seconds: int) -> Any:
        return await self._one("EXPIRE", key, seconds)

    async def aclose(self) -> None:
        """The socket is shared."""


class SimPipelines:
    """What stands in for `streams.redis_pipelines.Pipelines`."""

    def __init__(self, client: SimRedis, _deadline_s: float) -> None:
        self._client = client

    async def run(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return await pipe.execute(raise_on_error=False)

    async def close(self) -> None:
        """The socket is shared."""
