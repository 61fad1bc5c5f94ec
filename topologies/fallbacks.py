"""Fallback feeds (11): for those without a feed and for readers past the end of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.policy import Fallbacks as FallbackPolicy
from streams.feeds import FeedWriter
from streams.log import logger
from streams.redis_link import RedisUnavailableError
from topologies.catalogue import TURN, Catalogue
from topologies.feed_making import plain_entries
from wire.chunks import Entries
from wire.names import SURFACES
from wire.version import Version

I32 = NDArray[np.int32]
POLL_S = 1.0
FOR_YOU, FOLLOWING = SURFACES

log = logger(__name__)


@dataclass(slots=True)
class Fallbacks:
    """Written when the item index has moved on, at most every `policy.refresh_s`.

    `owns`: whether this worker is the one who writes them (the owner of item partition 0).
    """

    catalogue: Catalogue
    writer: FeedWriter
    policy: FallbackPolicy
    owns: Callable[[], bool]
    written_tick: int = -1

    async def run(self) -> None:
        """Write, for ever; Redis that does not answer is tried again."""
        while True:
            if self.owns() and self.catalogue.tick > self.written_tick:
                try:
                    await self.write()
                except RedisUnavailableError as error:
                    log.debug("fallback feeds wait for Redis", why=str(error))
                await asyncio.sleep(self.policy.refresh_s)
            await asyncio.sleep(POLL_S)

    async def write(self) -> None:
        """Write the feeds of the index's last refresh. Raises RedisUnavailableError."""
        index, tick, as_of_ms = self.catalogue.index, self.catalogue.tick, self.catalogue.as_of_ms
        lists, turns = index.lists, self.catalogue.turns
        await turns.take(TURN)  # a refresh beside the loop may evict items
        for topic, items in self._feeds():
            entries = plain_entries(index, items, "trending" if topic is None else "topic_trending")
            await self._put(FOR_YOU, topic, tick, as_of_ms, entries)
            if topic is None:
                await self._put(FOLLOWING, None, tick, as_of_ms, entries)
            await turns.take(TURN)
            if index.lists is not lists:
                return  # its slots may be other items by now: begin again with the new lists
        self.written_tick = tick

    async def _put(self, surface: str, topic: str | None, tick: int, as_of_ms: int, entries: Entries) -> None:
        version = str(Version(0, 0, tick, as_of_ms))
        await self.writer.write_fallback(surface, topic, version, as_of_ms, entries)

    def _feeds(self) -> Iterator[tuple[str | None, I32]]:
        """Topic (None: global) and items, trending first, then the newest."""
        index, length = self.catalogue.index, self.policy.length
        lists = index.lists
        yield None, _first(lists.trending, lists.explore, length)
        topics = np.argsort(-index.by_topic.items[: len(index.topic_ids)], kind="stable")
        for topic in topics[: self.policy.topics].tolist():
            start, end = (int(at[0]) for at in lists.topic_trending.of(np.array([topic], np.int32)))
            newest = index.by_topic.window(topic, length)
            yield index.topic_ids[topic], _first(lists.topic_trending.items[start:end], newest, length)


def _first(best: I32, rest: I32, length: int) -> I32:
    """Up to `length` items: the best, then the rest, each once."""
    both = np.concatenate([best, rest])
    _, first = np.unique(both, return_index=True)
    return both[np.sort(first)][:length].astype(np.int32)
