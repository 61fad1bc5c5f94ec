"""Ranking with emission (7 to 11): rows to feeds that lie in a real Redis, and their served records."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from benchmarks.figure import Figure
from benchmarks.place import running
from benchmarks.processes import peak_mb
from models.context import UserBatch
from streams.concerns import RedisSettings
from streams.feeds import FeedWriter, Outcome
from tests.services import start_redis
from topologies.feed_making import FeedMaker, SliceOfUsers
from wire.names import Namespace

if TYPE_CHECKING:
    from benchmarks.rank import Bench

ROUNDS = 7
GOAL_FEEDS_PER_S = 3_300


def emitted(bench: Bench) -> list[Figure]:
    """CPU of this process, the client of Redis in it, without Redis itself and without Kafka's client."""
    with tempfile.TemporaryDirectory(prefix="rank-") as root, running(start_redis(Path(root))) as redis:
        began = time.process_time()
        seconds = asyncio.run(_rounds(bench, redis.url))
        used = time.process_time() - began
    note = "entries encoded, written through the fence in pipelines, served records made"
    rate, goal, mb = 1 / seconds, GOAL_FEEDS_PER_S, peak_mb()
    return [
        Figure("rank", "with emission", rate, "feeds/s of CPU", goal=goal, cpu_s=used, peak_mb=mb, note=note),
        Figure("rank, per feed", "with emission", seconds * 1e6, "us", goal=300, better="lower"),
    ]


async def _rounds(bench: Bench, url: str) -> float:
    """CPU seconds per feed: of each slice the least of ROUNDS, as others disturb."""
    writer = FeedWriter(RedisSettings(REDIS_URL=SecretStr(url)), Namespace("bench"))
    await writer.start()
    maker = FeedMaker(bench.policy, bench.world.index, 7)
    best = [float("inf")] * len(bench.slices)
    for position in range(ROUNDS):
        for number, users in enumerate(bench.slices):
            started = time.process_time()
            index, verbs = bench.world.index, bench.policy.verbs
            batch = UserBatch.of(users.ids, users.rows, users.seen, users.graph, index, verbs)
            whole = SliceOfUsers(batch, [position] * bench.slice_users)
            made = maker.ranked(whole, "for_you", 1, bench.world.as_of_ms)
            outcomes = await writer.write([one.feed for one in made])
            records = [one.record() for one in made]
            best[number] = min(best[number], time.process_time() - started)
            assert set(outcomes) == {Outcome.WRITTEN}
            assert all(records)
    await writer.close()
    return sum(best) / bench.feeds
