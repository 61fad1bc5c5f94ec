"""The feeds that a demo ends with: everyone ranked at one stated time, and the digest of all (11)."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from demo.command import feedrank_here
from streams.settings import Settings
from topologies.digest_sources import digest_directory, digest_heads
from topologies.replay.steps import position_of
from topologies.settlement import SettleBoard, SettleRequest
from topologies.ticks import tick_of

AHEAD_MS = 120_000
"""So far ahead of now: until then no later tick closes and no feed is newer, however slow the machine is."""
SETTLE_S = 100.0


@dataclass(frozen=True, slots=True)
class Settled:
    """When feeds were settled, and the digest of rows and feeds then."""

    as_of_ms: int
    tick_s: int
    digest: str

    def command(self, recording: Path) -> str:
        """What makes the same again."""
        options = f"--to {self.as_of_ms} --into again --feeds files"
        return f"TICK_S={self.tick_s} {feedrank_here()} replay {recording} {options}"


def settle(settings: Settings, ends: dict[int, int]) -> int | None:
    """Have every active user ranked, after all activities; returns when (ms), None: it did not come about."""
    return asyncio.run(_settle(settings, ends))


async def _settle(settings: Settings, ends: dict[int, int]) -> int | None:
    tick_ms = settings.ranking.tick_s * 1_000
    tick = tick_of(time.time_ns() // 1_000_000 + AHEAD_MS, tick_ms)
    request = SettleRequest(uuid.uuid4().hex, tick, tick * tick_ms, ends)
    redis = Redis.from_url(settings.redis.address)
    try:
        board = SettleBoard(redis, settings.names)
        await board.ask(request)
        await board.wait(request, SETTLE_S)
        await board.withdraw(request)
    except (RedisError, TimeoutError):
        return None
    finally:
        await redis.aclose()
    return request.as_of_ms


def digest_of(settings: Settings, as_of_ms: int, ends: dict[int, int]) -> Settled | None:
    """Of the rows that the worker, now stopped, left on disk, and the feeds in Redis; None when it had no
    time to bring all rows to disk."""
    directory = settings.worker.data_dir / settings.names.name
    for partition, end in ends.items():
        position = position_of(directory / f"users-{partition}").get("position", 0)
        if position < end:
            return None
    found = digest_directory(directory)
    if found is None:
        return None
    found.as_of_ms, found.feeds = digest_heads(settings.redis, settings.names, as_of_ms)
    return Settled(as_of_ms, settings.ranking.tick_s, found.hash())
