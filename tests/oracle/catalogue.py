"""All live items with their statistics and the lists of a refresh (5, docs/candidates.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from tests.oracle.items import Derived, ItemRow
from tests.oracle.numbers import DAY_MS, clip
from tests.oracle.policy import EXPOSURE, NEGATIVE, STRONG, WEAK
from tests.oracle.records import Item
from tests.oracle.rings import COLUMNS

TREND_POOL_MAX, TRENDING_MAX, TOPIC_TRENDING_MAX = 16_384, 500, 50
EXPLORE_POOL_MAX, EXPLORE_IMPRESSIONS_MAX = 16_384, 100
ENGAGED_POOL_MAX, ENGAGED_MAX = 32_768, 8
ITEMS_LIVE_MAX = 1_000_000
ENGAGEMENT_MAX = 1 << 20

NONE = Derived([0] * COLUMNS, [0] * COLUMNS, [0] * COLUMNS, 0, [0] * COLUMNS, 0, [])


class Catalogue:
    """`items` by fp64 and their `rows`, as of a refresh at `as_of_ms` (the end of its tick)."""

    def __init__(self, items: Mapping[int, Item], rows: Mapping[int, ItemRow], tick: int, as_of_ms: int):
        assert len(items) <= ITEMS_LIVE_MAX
        self.items, self.tick, self.as_of_ms = items, tick, as_of_ms
        self.derived = {fp: rows[fp].derived(as_of_ms) if fp in rows else NONE for fp in items}

    @cached_property
    def newest(self) -> list[Item]:
        """All, newest first."""
        return sorted(self.items.values(), key=lambda item: item.newness, reverse=True)

    @cached_property
    def by_author(self) -> dict[int, list[Item]]:
        """fp48 -> items, newest first."""
        return _grouped(self.newest, lambda item: [item.author48])

    @cached_property
    def by_topic(self) -> dict[int, list[Item]]:
        """fp32 -> items, newest first."""
        return _grouped(self.newest, lambda item: item.topics32)

    @cached_property
    def total(self) -> list[int]:
        """`d7` of all items by column."""
        return self.week(self.items.values())

    @cached_property
    def total_examined(self) -> int:
        return sum(self.derived[fp].examined for fp in self.items)

    @cached_property
    def author_weeks(self) -> dict[int, list[int]]:
        return {author: self.week(items) for author, items in self.by_author.items()}

    @cached_property
    def topic_weeks(self) -> dict[int, list[int]]:
        return {topic: self.week(items) for topic, items in self.by_topic.items()}

    def week(self, items: Iterable[Item]) -> list[int]:
        """`d7` of some items by column."""
        weeks = [self.derived[item.fp].d7 for item in items]
        return [sum(week[column] for week in weeks) for column in range(COLUMNS)]

    @cached_property
    def trend(self) -> dict[int, int]:
        return {fp: _trend(derived) for fp, derived in self.derived.items()}

    @cached_property
    def _trend_pool(self) -> list[Item]:
        rising = [item for item in self.items.values() if self.trend[item.fp] > 0]
        return sorted(rising, key=lambda i: (self.trend[i.fp], i.fp), reverse=True)[:TREND_POOL_MAX]

    @cached_property
    def trending(self) -> list[Item]:
        return self._trend_pool[:TRENDING_MAX]

    @cached_property
    def topic_trending(self) -> dict[int, list[Item]]:
        by_topic = _grouped(self._trend_pool, lambda item: item.topics32)
        return {topic: items[:TOPIC_TRENDING_MAX] for topic, items in by_topic.items()}

    @cached_property
    def explore(self) -> list[Item]:
        young = [
            item
            for item in self.newest
            if item.created_ms > self.as_of_ms - DAY_MS
            and self.derived[item.fp].d7[EXPOSURE] < EXPLORE_IMPRESSIONS_MAX
        ]
        return young[:EXPLORE_POOL_MAX]

    @cached_property
    def _engaged_pool(self) -> list[Item]:
        engaged = [item for item in self.items.values() if self.derived[item.fp].engagers]
        return sorted(engaged, key=lambda i: (self.derived[i.fp].last_s, i.fp), reverse=True)[
            :ENGAGED_POOL_MAX
        ]

    @cached_property
    def engaged_place(self) -> dict[int, int]:
        return {item.fp: place for place, item in enumerate(self._engaged_pool)}

    @cached_property
    def engaged(self) -> dict[int, list[Item]]:
        """fp48 of a user -> the items that they engaged with."""
        by_user = _grouped(
            self._engaged_pool, lambda item: [user for user, _ in self.derived[item.fp].engagers]
        )
        return {user: items[:ENGAGED_MAX] for user, items in by_user.items()}


def _grouped(items: Iterable[Item], keys: Callable[[Item], Iterable[int]]) -> dict[int, list[Item]]:
    groups: dict[int, list[Item]] = {}
    for item in items:
        for key in keys(item):
            groups.setdefault(key, []).append(item)
    return groups


def _trend(derived: Derived) -> int:
    e1 = _engagement(derived.h1)
    e24 = max(_engagement(derived.h24), e1)
    return (24 * e1 + e24) * 24 * (e1 + 5) // (e24 + 24 * 5)


def _engagement(counts: list[int]) -> int:
    return clip(counts[WEAK] + 4 * counts[STRONG] - 8 * counts[NEGATIVE], 0, ENGAGEMENT_MAX)
