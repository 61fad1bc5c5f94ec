"""Candidates from the lists of the last refresh (7): trending, trending by topic, new items to explore."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.candidates.query import USER_TOPICS_MAX, Query, splitmix64

I32 = NDArray[np.int32]
U64 = NDArray[np.uint64]


class Trending:
    """The most trending items, the same for everyone."""

    name, bit = "trending", 4

    def propose(self, query: Query, reach: int) -> I32:
        first = query.index.lists.trending[:reach]
        return np.broadcast_to(first, (len(query), len(first)))


class TopicTrending:
    """The most trending items of the user's topics, one topic after the other in turn."""

    name, bit = "topic_trending", 5

    def propose(self, query: Query, reach: int) -> I32:
        trending, depth = query.index.lists.topic_trending, -(-reach // USER_TOPICS_MAX)
        if not len(trending.items):
            return np.zeros((len(query), 0), np.int32)
        starts, ends = trending.of(query.topics)
        at = starts[:, None, :] + np.arange(depth)[None, :, None]
        inside = at < ends[:, None, :]
        items = np.where(inside, trending.items[np.where(inside, at, 0)], np.int32(-1))
        return items.reshape(len(query), -1)[:, :reach]


class Explore:
    """New items that few have seen, drawn with the feed's seed (an item drawn twice counts once)."""

    name, bit = "explore", 6

    def propose(self, query: Query, reach: int) -> I32:
        pool = query.index.lists.explore
        if not len(pool):
            return np.zeros((len(query), 0), np.int32)
        number: U64 = np.arange(1, reach + 1, dtype=np.uint64)
        draw = splitmix64(query.seeds[:, None] + number)
        at = ((draw >> np.uint64(32)) * np.uint64(len(pool))) >> np.uint64(32)
        return pool[at.astype(np.int64)]
