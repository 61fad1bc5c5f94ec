"""Emit (11): finished feeds to Redis, one pipelined write per slice, past a fence that refuses older ones.

    writer = FeedWriter(settings.redis, settings.names)
    await writer.start()
    outcomes = await writer.write(feeds)

A write is idempotent: after RedisUnavailableError the caller keeps the feeds, waits and writes them again
(`write_patiently` does just that). What became newer in between is refused by the fence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

import orjson
from redis.exceptions import ResponseError

from streams.concerns import RedisSettings
from streams.log import logger
from streams.redis_link import Command, RedisLink, RedisUnavailableError
from wire.chunks import Entries
from wire.names import Namespace
from wire.scripts import FENCE
from wire.version import Version

__all__ = ["FeedToWrite", "FeedWriter", "Outcome", "RedisUnavailableError"]

SLICE_FEEDS_MAX = 32
PIPELINES_MAX = 4
VERSIONS_SLICE_MAX = 256
CHANGES_KEPT_MAX = 10_000
PRESENCE_CHECK_S = 1.0
CLUSTER_MARKERS = 64
"""Markers on a Cluster: enough keys that every primary holds one."""
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0

log = logger(__name__)


class Outcome(Enum):
    """What became of a feed. `ALREADY`: this very version is there (a retry after a lost reply).

    `FAILED`: Redis refused this one key (it holds something else); the log says why. The others are fine.
    """

    WRITTEN = "written"
    ALREADY = "already"
    REFUSED_OLDER = "refused_older"
    FAILED = "failed"


_OUTCOMES = {1: Outcome.WRITTEN, 0: Outcome.ALREADY, -1: Outcome.REFUSED_OLDER}


@dataclass(frozen=True, slots=True)
class FeedToWrite:
    """One feed. `version` is `str(Version)`; `topics`: what to go on with past its end, best first."""

    user: str
    surface: str
    version: str
    generated_at_ms: int
    stale_after_ms: int
    policy: str
    model: str
    entries: Entries
    topics: tuple[str, ...] = ()


class FeedWriter:
    """Writes feeds of one namespace; one call at a time.

    `losses` grows when Redis is found without our marker, or with one set since we last looked: it is
    new or came back empty, and every active user's feed is missing (so it is 1 after the first write to an
    empty Redis). `failures` counts consecutive failed calls, 0 while Redis answers.
    """

    def __init__(self, settings: RedisSettings, names: Namespace) -> None:
        self.losses = 0
        self.failures = 0
        self._names = names
        self._cluster = settings.cluster
        self._link = RedisLink(settings)
        self._ttl_s = settings.feed_ttl_s
        self._markers = [names.present(i) for i in range(CLUSTER_MARKERS if settings.cluster else 1)]
        self._marks: list[object] = []
        self._marked_s = float("-inf")
        self._announcing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and look for the marker. Raises RedisUnavailableError."""
        await self._check_presence()

    async def look(self) -> None:
        """Count a loss that happened while nothing was written. Raises RedisUnavailableError."""
        await self._check_presence()

    async def close(self) -> None:
        """Close connections; harmless twice."""
        await self._announced()
        await self._link.close()

    async def write(self, feeds: Sequence[FeedToWrite]) -> list[Outcome]:
        """Outcomes in the order of `feeds`; users of those written are announced on the change channel.

        Raises RedisUnavailableError (some may have been written: write all again), ValueError for a version
        that is not one.
        """
        await self._check_presence()
        parts = [feeds[start : start + SLICE_FEEDS_MAX] for start in range(0, len(feeds), SLICE_FEEDS_MAX)]
        outcomes: list[Outcome] = []
        for start in range(0, len(parts), PIPELINES_MAX):
            together = parts[start : start + PIPELINES_MAX]
            fences = []
            for part in together:
                fences.append(self._fences(part))
                await asyncio.sleep(0)
            answered = await self._run_all(fences)
            for part, replies in zip(together, map(iter, answered), strict=True):
                outcomes += [_outcome(next(replies)) if self._has_slot(f) else _slotless() for f in part]
        await self._announced()
        self._announcing = asyncio.create_task(self._announce(feeds, outcomes))
        return outcomes

    def _fences(self, feeds: Sequence[FeedToWrite]) -> list[Command]:
        for version in {feed.version for feed in feeds}:  # users of one shard mostly have the same
            Version.parse(version)
        return [self._fence(feed) for feed in feeds if self._has_slot(feed)]

    async def write_patiently(
        self, feeds: Sequence[FeedToWrite], waiting: Callable[[RedisUnavailableError], None]
    ) -> list[Outcome]:
        """As `write`, but waits for Redis as long as it takes; `waiting` is told of every failed attempt."""
        while True:
            try:
                return await self.write(feeds)
            except RedisUnavailableError as error:
                waiting(error)
                await asyncio.sleep(error.retry_after_s)

    async def write_fallback(
        self, surface: str, topic: str | None, version: str, generated_at_ms: int, entries: Entries
    ) -> Outcome:
        """The feed for those without one: of a topic, or global. Raises RedisUnavailableError."""
        feed = FeedToWrite("", surface, version, generated_at_ms, generated_at_ms, "", "", entries)
        head = self._names.fallback(surface, topic)
        Version.parse(version)
        return _outcome((await self._run([self._fence_at(feed, head)]))[0])

    async def read_versions(self, surface: str, users: Sequence[str]) -> list[str | None]:
        """The version of each user's head in Redis; None: there is no feed. Raises RedisUnavailableError."""
        found: list[str | None] = []
        for start in range(0, len(users), VERSIONS_SLICE_MAX):
            part = users[start : start + VERSIONS_SLICE_MAX]
            replies = await self._run([("HGET", self._names.feed(surface, u), "version") for u in part])
            found.extend(r.decode() if isinstance(r, bytes) else None for r in replies)
        return found

    def _has_slot(self, feed: FeedToWrite) -> bool:
        """On a Cluster an id that begins with } has an empty hash tag: its keys lie on different nodes."""
        return not (self._cluster and feed.user.startswith("}"))

    def _fence(self, feed: FeedToWrite) -> Command:
        head = self._names.feed(feed.surface, feed.user)
        return self._fence_at(feed, head, self._names.pin(feed.surface, feed.user))

    def _fence_at(self, feed: FeedToWrite, *keys: str) -> Command:
        return (FENCE, keys, feed.version, self._ttl_s, *_fields(feed))

    async def _announce(self, feeds: Sequence[FeedToWrite], outcomes: Sequence[Outcome]) -> None:
        """One message per write, beside the next one. Lost when Redis goes away right now: readers see
        versions anyway."""
        changed = [
            (f.user, f.surface, f.version)
            for f, outcome in zip(feeds, outcomes, strict=True)
            if outcome is Outcome.WRITTEN
        ]
        if not changed:
            return
        key, text = self._names.changed, orjson.dumps(changed)
        added = ("XADD", key, "MAXLEN", "~", CHANGES_KEPT_MAX, "*", "feeds", text)
        with suppress(RedisUnavailableError):
            await self._link.run([added, ("PUBLISH", key, text)])

    async def _announced(self) -> None:
        if self._announcing is not None:
            await self._announcing

    async def _check_presence(self) -> None:
        """At most once a second: is this still the Redis that we wrote to?"""
        now_s = time.monotonic()
        if now_s - self._marked_s < PRESENCE_CHECK_S and not self.failures:
            return
        now_us = time.time_ns() // 1_000  # one of several workers sets it, all others see that it is another
        replies = await self._run(
            [c for marker in self._markers for c in (("SETNX", marker, now_us), ("GET", marker))]
        )
        fresh, before, self._marks = replies[::2], self._marks, replies[1::2]
        self._marked_s = now_s
        if 1 in fresh or (before and before != self._marks):
            self.losses += 1
            log.warning("this Redis has no feeds of ours (new, or came back empty): all are due")

    async def _run(self, commands: Sequence[Command]) -> list[object]:
        return (await self._run_all([commands]))[0]

    async def _run_all(self, pipelines: Sequence[Sequence[Command]]) -> list[list[object]]:
        """Side by side, on a connection each: on a busy loop a round trip takes several of its rounds."""
        try:
            replies = await self._link.run_all(pipelines)
        except RedisUnavailableError as error:
            error.retry_after_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(self.failures, 10))
            self.failures += 1
            raise
        self.failures = 0
        return replies


def _fields(feed: FeedToWrite) -> Iterator[object]:
    """The head's fields but its version, as field, value, field, value."""
    yield from ("generated_at", feed.generated_at_ms, "stale_after", feed.stale_after_ms)
    yield from ("policy", feed.policy, "model", feed.model, "count", len(feed.entries))
    if feed.topics:
        yield from ("topics", orjson.dumps(feed.topics))
    for i, chunk in enumerate(feed.entries.chunks()):
        yield from (f"p{i}", chunk)


def _slotless() -> Outcome:
    log.error("a user id that begins with } cannot be served from a Redis Cluster; use a single Redis")
    return Outcome.FAILED


def _outcome(reply: object) -> Outcome:
    if isinstance(reply, list):
        return _OUTCOMES[reply[0]]
    if isinstance(reply, ResponseError):
        log.error("Redis refused one feed; look at what its key holds, delete it", error=str(reply))
        return Outcome.FAILED
    raise TypeError(f"the fence answered {reply!r}; does a proxy change replies? connect to Redis itself")
