"""Shards of one worker without a broker: whatever is cut short, their directories are free again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from streams.checkpoint import ShardLost
from streams.shard import Reader, Shard
from streams.shards import Job, Shards, Site
from tests.streams.counters import Counters, add
from tests.streams.fakes import checkpoints, kafka_at
from tests.waiting import GUARD_S
from wire.names import Namespace

Counting = Shards[Counters]


async def cut_short(work: Awaitable[None], turns: int) -> None:
    """Begin it, and cancel it after so many turns of the loop."""
    task = asyncio.ensure_future(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def lost_and_revoked_at_once(shards: Counting, shard: Shard[Counters]) -> None:
    """The task that would open it again is cancelled before its first turn."""
    shards._ended(shard, ShardLost("fenced by a test", "fenced"))
    await shards.revoke([0], GUARD_S)


async def revoked_while_reopening(shards: Counting, shard: Shard[Counters]) -> None:
    shards._ended(shard, ShardLost("fenced by a test", "fenced"))
    await asyncio.sleep(0)
    await shards.revoke([0], GUARD_S)


async def revoked_and_cut_short(shards: Counting, shard: Shard[Counters]) -> None:
    """A recovery begins with giving up what an assignment before opened, and a newer one cancels it."""
    await cut_short(shards.revoke([0], GUARD_S), turns=1)


async def parked_and_cut_short(shards: Counting, shard: Shard[Counters]) -> None:
    """The shard went to another worker, and a newer assignment comes while its rows go to RocksDB."""
    await shards.revoke([0], GUARD_S)
    assert list(shards._parked) == [0]

    async def long_flush() -> None:
        await asyncio.Event().wait()

    shard.checkpoints.flush = long_flush  # type: ignore[method-assign]
    await cut_short(shards.recover([]), turns=1)


async def revoked_as_a_recovery_begins(shards: Counting, shard: Shard[Counters]) -> None:
    """It stands nowhere until it is settled; who recovers waits for that."""
    leaving = asyncio.ensure_future(shards.revoke([0], GUARD_S))
    await asyncio.sleep(0)
    assert not shards.open
    await shards.revoke([], GUARD_S)  # how each recovery begins
    assert list(shards._parked) == [0]
    await leaving
    await shards.recover([])


Ending = Callable[[Counting, Shard[Counters]], Awaitable[None]]


@pytest.mark.parametrize(
    "ending",
    [
        lost_and_revoked_at_once,
        revoked_while_reopening,
        revoked_and_cut_short,
        parked_and_cut_short,
        revoked_as_a_recovery_begins,
    ],
)
def test_a_shard_that_was_given_up_can_be_opened_again(tmp_path: Path, ending: Ending) -> None:
    job: Job[Counters] = Job("counters", "in", "log", lambda p, store: Counters(p, store, None), add)
    site = Site(Namespace("test"), kafka_at("nowhere:1"), checkpoints(), tmp_path)
    failures: list[BaseException] = []

    async def play() -> None:
        shards: Counting = Shards(job, site, Reader(), failures.append)
        shard = shards.open[0] = await shards._make(0)
        shard.state.committed_position = 0  # nothing to commit, so no broker is needed
        shard.start(shards._ended)
        await asyncio.sleep(0)
        await ending(shards, shard)
        assert not shards.open
        assert shard.closed
        again = await shards._make(0)  # RocksDB refuses a directory that this process still holds
        await again.close()

    asyncio.run(play())
    assert not failures
