"""Delivery (11): ranked feeds to Redis and into the served log, beside the ranking of the next users.

Writing takes several rounds of a loop that ingest keeps busy, so it has a task of its own: what was ranked
meanwhile goes out together. Redis that does not answer stops emission, never ingest.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.candidates import SOURCE_NAMES
from streams.feeds import FeedWriter, Outcome
from streams.health import Health
from streams.log import logger
from streams.metrics import Metrics
from streams.redis_link import RedisUnavailableError
from topologies.clicks import ShownSources
from topologies.feed_making import MadeFeed
from topologies.served import ServedLog

SLICES_WAITING_MAX = 8
"""Ranked slices that wait for Redis; from here on nobody is ranked, and users stay due."""
SLICES_TOGETHER_MAX = 8

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class RankedSlice:
    """Feeds of a few users. `partition_of`: where each user's activities are; `record_ms`: Kafka's time of
    the acts that made them due."""

    made: Sequence[MadeFeed]
    partition_of: dict[str, int]
    record_ms: Sequence[int] = ()


@dataclass(slots=True)
class Delivery:
    """Writes what `put` queued, in order, one round at a time."""

    writer: FeedWriter
    served: ServedLog
    metrics: Metrics
    health: Health
    shown: ShownSources = field(default_factory=ShownSources)
    _waiting: asyncio.Queue[RankedSlice] = field(default_factory=lambda: asyncio.Queue(SLICES_WAITING_MAX))
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def put(self, ranked: RankedSlice) -> None:
        """Queue a slice; waits while Redis is behind."""
        await self._waiting.put(ranked)

    async def run(self) -> None:
        """Write what is queued, for ever."""
        while True:
            slices = [await self._waiting.get()]
            while len(slices) < SLICES_TOGETHER_MAX and not self._waiting.empty():
                slices.append(self._waiting.get_nowait())
            await self.deliver(slices)

    async def deliver(self, slices: Sequence[RankedSlice]) -> int:
        """Write these now, for as long as Redis takes to answer; returns the feeds that are there."""
        made = [one for ranked in slices for one in ranked.made]
        if not made:
            return 0
        async with self._one:
            started = time.perf_counter()
            outcomes = await self.writer.write_patiently([m.feed for m in made], self.redis_waits)
            self.redis_answers()
            self.metrics.spent("emit", time.perf_counter() - started)
        now_ms = time.time_ns() // 1_000_000
        rest = list(outcomes)
        for ranked in slices:
            for at_ms in ranked.record_ms:
                self.metrics.event_to_redis.observe(max(0, now_ms - at_ms) / 1_000)
            own, rest = rest[: len(ranked.made)], rest[len(ranked.made) :]
            self._count(ranked.made, own)
            await self._log(ranked, own)
            await asyncio.sleep(0)
        return sum(outcome in (Outcome.WRITTEN, Outcome.ALREADY) for outcome in outcomes)

    async def _log(self, ranked: RankedSlice, outcomes: Sequence[Outcome]) -> None:
        """The served log, by the partitions of the users' activities."""
        of = [ranked.partition_of[one.feed.user] for one in ranked.made]
        for partition in dict.fromkeys(of):
            own = [i for i, its in enumerate(of) if its == partition]
            await self.served.send(partition, [ranked.made[i] for i in own], [outcomes[i] for i in own])

    def _count(self, made: Sequence[MadeFeed], outcomes: Sequence[Outcome]) -> None:
        """A slice at once: a feed alone costs as much as all of them."""
        if not made:
            return
        metrics, ranked = self.metrics, [one.ranked for one in made]
        source = np.concatenate([one.source for one in ranked])
        users = np.repeat(np.array([one.user_fp for one in ranked], np.uint64), [len(one) for one in ranked])
        self.shown.put(users, np.concatenate([one.item_fp for one in ranked]), source)
        served = np.bincount(source, minlength=len(SOURCE_NAMES)).tolist()
        metrics.add_each(metrics.served_items, dict(zip(SOURCE_NAMES, served, strict=False)))
        for (surface, outcome), feeds in Counter(
            (one.feed.surface, outcome.value) for one, outcome in zip(made, outcomes, strict=True)
        ).items():
            metrics.add(metrics.feeds, feeds, surface, outcome)
        metrics.add_each(metrics.dropped_items, _sums(one.dropped for one in ranked))
        metrics.add_each(metrics.candidates, _sums(one.candidates for one in ranked))
        metrics.add_each(metrics.source_failures, Counter(name for one in ranked for name in one.failed))

    def redis_waits(self, error: RedisUnavailableError) -> None:
        """Redis did not answer: one line per outage, the rest is for monitors."""
        if "redis" not in self.health.reasons:
            log.warning("Redis does not answer; ingest goes on, feeds wait", why=str(error))
        self.metrics.redis_up.set(0)
        self.metrics.redis_errors.inc()
        self.health.not_ready("redis", str(error))

    def redis_answers(self) -> None:
        """Redis took what it was given."""
        if "redis" in self.health.reasons:
            log.info("Redis answers again")
        self.metrics.redis_up.set(1)
        self.health.ready("redis")


def _sums(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for one in counts:
        found.update(one)
    return found
