"""`feedrank settle`: every active user ranked at one stated (tick, as_of), once inputs are drained.

How it flows, with nothing but what the job does anyway:

1. the command reads the end offsets of activities and writes a request into Redis;
2. each user shard that has applied up to its end offset sends its deltas with watermark = as_of;
3. item shards close the tick when all watermarks have passed it and all activities before these ends are in
   their sums (never by grace), and publish, a marker last, which says what the sums contain;
4. a worker whose tailing reader has seen the markers of all partitions refreshes its item index at
   (tick, as_of), ranks every active user of each of its shards and acknowledges the shard.

A worker that dies in between starts again from the request; acknowledging twice is harmless. The command
withdraws its request at the end, also when it gives up: an open request keeps ticks from closing by grace.
A tick that closed without all of its input, as no request was known then, is refused.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import orjson
from redis.asyncio import Redis

from wire.names import Namespace

REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class SettleRequest:
    """Rank every active user at `as_of_ms` = end of `tick`, after activities up to `ends` (by partition)."""

    id: str
    tick: int
    as_of_ms: int
    ends: dict[int, int]

    def encode(self) -> bytes:
        ends = {str(partition): offset for partition, offset in self.ends.items()}
        return orjson.dumps({"id": self.id, "tick": self.tick, "as_of_ms": self.as_of_ms, "ends": ends})

    @classmethod
    def decode(cls, raw: bytes | str) -> SettleRequest:
        value = orjson.loads(raw)
        ends = {int(k): int(v) for k, v in value["ends"].items()}
        return cls(str(value["id"]), int(value["tick"]), int(value["as_of_ms"]), ends)


class SettleRefused(Exception):  # noqa: N818
    """What was asked for cannot be had any more; the message says why and what to do."""


class SettleBoard:
    """Where request and acknowledgements stand in Redis (`feedrank:settle:{<ns>}` and `...:acks`)."""

    TTL_S = 86_400

    def __init__(self, redis: Redis, namespace: Namespace) -> None:
        self._redis = redis
        self._key = f"feedrank:settle:{{{namespace.name}}}"
        self._acks = f"{self._key}:acks"

    async def ask(self, request: SettleRequest) -> None:
        """Replace whatever request stood there."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(self._acks)
            pipe.set(self._key, request.encode(), ex=self.TTL_S)
            await pipe.execute()

    async def pending(self) -> SettleRequest | None:
        raw = await self._redis.get(self._key)
        return None if raw is None else SettleRequest.decode(raw)

    async def withdraw(self, request: SettleRequest) -> None:
        """Settled or given up: workers go on as before. A request that replaced this one stays."""
        if await self.pending() == request:
            await self._redis.delete(self._key)

    async def acknowledge(self, request: SettleRequest, partition: int, feeds: int) -> None:
        """Shard `partition` has written its `feeds` feeds."""
        await self._redis.hset(self._acks, f"{request.id}:{partition}", str(feeds))
        await self._redis.expire(self._acks, self.TTL_S)

    async def refuse(self, request: SettleRequest, why: str) -> None:
        """Nobody can settle this."""
        await self._redis.hset(self._acks, f"{request.id}:{REFUSED}", why)
        await self._redis.expire(self._acks, self.TTL_S)

    async def acknowledged(self, request: SettleRequest) -> dict[int, int]:
        """Feeds written, by partition, so far. Raises SettleRefused."""
        raw = await self._redis.hgetall(self._acks)
        found: dict[int, int] = {}
        for name, feeds in raw.items():
            ident, _, partition = (name.decode() if isinstance(name, bytes) else name).rpartition(":")
            if ident == request.id and partition == REFUSED:
                raise SettleRefused(feeds.decode() if isinstance(feeds, bytes) else feeds)
            if ident == request.id:
                found[int(partition)] = int(feeds)
        return found

    async def wait(self, request: SettleRequest, timeout_s: float, poll_s: float = 0.1) -> dict[int, int]:
        """Until every partition has acknowledged. Raises TimeoutError that names the missing partitions,
        SettleRefused."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            found = await self.acknowledged(request)
            missing = sorted(set(request.ends) - set(found))
            if not missing:
                return found
            if loop.time() > deadline:
                raise TimeoutError(
                    f"settle {request.id}: partitions {missing} did not acknowledge in {timeout_s:.0f} s; "
                    "check that workers own them (/readyz) and that their lag is falling, then ask again"
                )
            await asyncio.sleep(poll_s)
