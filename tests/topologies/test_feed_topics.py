"""The topics that feeds carry most, beside a count feed by feed."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from topologies.feed_topics import FEED_TOPICS, most_carried

IDS = ["b", "jazz", "", "a", "B", "rock", "ä", "a9", "a10"]
ENTRY = st.tuples(*[st.integers(-1, len(IDS) - 1)] * 2)


def counted(feed: list[tuple[int, ...]]) -> tuple[str, ...]:
    counts = Counter(IDS[topic] for entry in feed for topic in entry if topic >= 0)
    return tuple(sorted(counts, key=lambda name: (-counts[name], name))[:FEED_TOPICS])


@given(st.lists(st.lists(ENTRY, max_size=12), min_size=1, max_size=64))
def test_the_most_frequent_come_first_and_equal_ones_by_id(feeds: list[list[tuple[int, ...]]]) -> None:
    topics = np.array([entry for feed in feeds for entry in feed], np.int32).reshape(-1, 2)
    feed = np.repeat(np.arange(len(feeds)), [len(feed) for feed in feeds])
    assert most_carried(topics, feed, len(feeds), IDS) == [counted(feed) for feed in feeds]
