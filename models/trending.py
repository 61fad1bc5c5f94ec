"""Trending (5): each item's trend score, and the lists of the highest, global and by topic.

The score is the last hour's engagement times how much faster than its day's average it comes, in integers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.verbs import Role

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

TREND_STRONG = 4
TREND_NEGATIVE = 8
TREND_PRIOR = 5
"""Engagements of an average hour that every item is taken to have had."""

ENGAGEMENT_MAX = 1 << 20
TRENDING_MAX = 500
TOPIC_TRENDING_MAX = 50
TREND_POOL_MAX = 16_384
"""Items with the highest score; the lists by topic are made of them."""

_RANK_BITS = 14


def engagement(counts: NDArray[np.int32]) -> I64:
    """int64[n]: weak + 4 strong - 8 negative of int32[n, 5] window counts, clipped to 0..2^20."""
    wide = counts.astype(np.int64)
    value: I64 = (
        wide[:, Role.WEAK] + TREND_STRONG * wide[:, Role.STRONG] - TREND_NEGATIVE * wide[:, Role.NEGATIVE]
    )
    return np.minimum(np.maximum(value, 0), ENGAGEMENT_MAX)


def trend_scores(hour: NDArray[np.int32], day: NDArray[np.int32]) -> I64:
    """int64[n] >= 0 from int32[n, 5] counts of the last hour and the last 24 h; 0 = not trending.

    With e1, e24 their engagements and P the prior: (24 e1 + e24) * 24 (e1 + P) // (e24 + 24 P).
    """
    e1 = engagement(hour)
    e24 = np.maximum(engagement(day), e1)
    score: I64 = (24 * e1 + e24) * (24 * (e1 + TREND_PRIOR)) // (e24 + 24 * TREND_PRIOR)
    return score


class TopicTrending:
    """Per topic the first TOPIC_TRENDING_MAX of the trending items that carry it.

    `ranked` int32[m <= TREND_POOL_MAX]: items, most trending first; `topics` int32[m, 4]: theirs (-1 = none);
    `count`: number of topic slots.
    """

    def __init__(self, ranked: I32, topics: I32, count: int) -> None:
        rank = np.repeat(np.arange(len(ranked), dtype=np.int64), topics.shape[1])
        topic = topics.ravel()
        pairs = np.sort(((topic.astype(np.int64) << _RANK_BITS) | rank)[topic >= 0])
        topic, rank = (pairs >> _RANK_BITS).astype(np.int32), pairs & ((1 << _RANK_BITS) - 1)
        begin = np.searchsorted(topic, topic)  # where the run of the same topic begins
        kept = np.arange(len(topic)) - begin < TOPIC_TRENDING_MAX
        self.items: I32 = ranked[rank[kept]]
        self.starts: I32 = np.searchsorted(topic[kept], np.arange(count + 1)).astype(np.int32)

    def of(self, topics: I32) -> tuple[I32, I32]:
        """Starts and ends int32[k] in `items` of k topics; -1 and topics without a list have none."""
        known = (topics >= 0) & (topics < len(self.starts) - 1)
        at = np.where(known, topics, 0)
        starts = np.where(known, self.starts[at], 0)
        return starts, np.where(known, self.starts[np.where(known, topics + 1, 0)], 0)


def no_topic_trending() -> TopicTrending:
    """Before the first refresh."""
    return TopicTrending(np.zeros(0, np.int32), np.zeros((0, 4), np.int32), 0)
