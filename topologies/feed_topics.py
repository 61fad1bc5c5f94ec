"""The topics that feeds carry most (11): what readers go on with past a feed's end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
FEED_TOPICS = 3
FEED_BIT, COUNT_BIT = 52, 32
TOPIC, COUNT = (1 << COUNT_BIT) - 1, (1 << FEED_BIT - COUNT_BIT) - 1
"""A feed (up to 2^11), a count (up to 2^20) and a topic in one whole number."""


def most_carried(
    topics: NDArray[np.int32], feed: I64, feeds: int, ids: Sequence[str]
) -> list[tuple[str, ...]]:
    """Of each feed the topics that its entries carry most often, equal ones by id.

    `topics` int32[n, k] of n entries into `ids`, -1 = none; `feed` int64[n]: the feed of each entry, from 0.
    The feeds of a slice are counted together; of each, only topics as frequent as its third are named.
    """
    carried = ((feed << FEED_BIT)[:, None] + topics)[topics >= 0]
    if not len(carried):
        return [()] * feeds
    carried.sort()
    first = np.flatnonzero(np.diff(carried, prepend=-1))
    rare = COUNT - np.diff(first, append=len(carried))
    ordered = np.sort(carried[first] + (rare << COUNT_BIT))
    starts = np.searchsorted(ordered, np.arange(feeds + 1) << FEED_BIT)
    third = ordered[np.minimum(starts[:-1] + FEED_TOPICS, starts[1:]) - 1]
    ends = np.minimum(np.searchsorted(ordered, third | TOPIC, "right"), starts[1:])
    rarity, topic = (ordered >> COUNT_BIT).tolist(), (ordered & TOPIC).tolist()
    found = []
    for start, end in zip(starts[:-1].tolist(), ends.tolist(), strict=True):
        named = sorted((rarity[at], ids[topic[at]]) for at in range(start, end))
        found.append(tuple(name for _, name in named[:FEED_TOPICS]))
    return found
