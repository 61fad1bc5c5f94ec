"""The lists that a tick brings (5): trending, new items to explore, engagers; made in slices of a few ms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.engagers import ENGAGED_POOL_MAX, EngagerTable
from models.item_columns import ItemColumns
from models.top_pool import TopPool
from models.trending import TREND_POOL_MAX, TRENDING_MAX, TopicTrending, no_topic_trending
from models.verbs import Role

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

REFRESH_SLOTS = 32_768
"""Slots read in one slice of a refresh."""

EXPLORE_AGE_MS = 86_400_000
EXPLORE_IMPRESSIONS_MAX = 100
EXPLORE_POOL_MAX = 16_384


@dataclass(frozen=True, slots=True)
class Lists:
    """As of a tick and a time, a function of the live set and the derived records.

    `trending` int32[<= 500]; `explore` int32[<= 16,384]: new items with few impressions, newest first.
    Items may have been removed since: readers mask them by `live`.
    """

    tick: int = 0
    as_of_ms: int = 0
    trending: I32 = field(default_factory=lambda: np.zeros(0, np.int32))
    topic_trending: TopicTrending = field(default_factory=no_topic_trending)
    explore: I32 = field(default_factory=lambda: np.zeros(0, np.int32))
    engagers: EngagerTable = field(default_factory=EngagerTable)


def build_lists(
    columns: ItemColumns, topics: int, tick: int, as_of_ms: int, out: list[Lists]
) -> Iterator[None]:
    """Yields between slices of a few ms; appends the finished lists to `out`. `topics`: topic slots."""
    trend, new, engaged = TopPool(TREND_POOL_MAX), TopPool(EXPLORE_POOL_MAX), TopPool(ENGAGED_POOL_MAX)
    high = columns.slots.high
    for start in range(0, high, REFRESH_SLOTS):
        part = slice(start, min(start + REFRESH_SLOTS, high))
        slots, live, fp = (
            np.arange(part.start, part.stop, dtype=np.int32),
            columns.live[part],
            columns.fp[part],
        )
        at = np.flatnonzero(live & (columns.trend[part] > 0))
        trend.add(columns.trend[part][at], fp[at], slots[at])
        at = np.flatnonzero(live & (columns.created_ms[part] > as_of_ms - EXPLORE_AGE_MS))
        at = at[columns.derived["d7"][slots[at], Role.EXPOSURE] < EXPLORE_IMPRESSIONS_MAX]
        new.add(columns.created_ms[part][at], fp[at], slots[at])
        yield
        last_s = columns.derived["last_s"][part].astype(np.int64)
        at = np.flatnonzero(live & (columns.derived["engagers"][part, 0] != 0))
        engaged.add(last_s[at], fp[at], slots[at])
        yield
    ranked = trend.ranked()
    yield
    by_topic = TopicTrending(ranked, columns.topics[ranked], topics)
    yield
    table, pool = EngagerTable(), engaged.ranked()
    yield from table.fill(pool, columns.derived["engagers"])
    out.append(Lists(tick, as_of_ms, ranked[:TRENDING_MAX], by_topic, new.ranked(), table))


def oldest(columns: ItemColumns, count: int, out: list[NDArray[np.uint64]]) -> Iterator[None]:
    """Appends the fps of the `count` live items with the smallest (created_ms, fp); yields between slices."""
    pool = TopPool(count)
    high = columns.slots.high
    for start in range(0, high, REFRESH_SLOTS):
        slots = start + np.flatnonzero(columns.live[start : min(start + REFRESH_SLOTS, high)])
        pool.add(-columns.created_ms[slots], ~columns.fp[slots], slots.astype(np.int32))
        yield
    out.append(columns.fp[pool.ranked()])
