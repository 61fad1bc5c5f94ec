"""Smoothed rates (8): of all items, authors, topics, items by window (docs/ranking.md, Rates)."""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracle.catalogue import Catalogue
from tests.oracle.numbers import GRID, clip, log2_whole
from tests.oracle.policy import EXPOSURE, HEADS, NEGATIVE, STRONG, WEAK
from tests.oracle.records import Item

RATE = 1 << 24
COUNT_MAX = 1 << 28
DWELL = 4
BASE = {WEAK: RATE // 20, STRONG: RATE // 100, NEGATIVE: RATE // 500}

Counts = Sequence[int]


def trials(counts: Counts) -> int:
    return max(counts[EXPOSURE], counts[WEAK] + counts[STRONG] + counts[NEGATIVE])


def smooth(count: int, out_of: int, prior: int, weight: int) -> int:
    return min(RATE, (count * RATE + weight * prior) // (out_of + weight))


def clipped(counts: Counts) -> list[int]:
    return [clip(count, 0, COUNT_MAX) for count in counts]


def log_rate(rate: int) -> int:
    return log2_whole(max(1, rate))


class Rates:
    """As of a refresh."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        total = [max(count, 0) for count in catalogue.total]
        self.all = {a: max(1, (total[a] * RATE + 1000 * BASE[a]) // (trials(total) + 1000)) for a in HEADS}
        weighted = max(catalogue.total_examined, 0)
        self.debias = min(65_536, (total[EXPOSURE] + 1000) * 65_536 // (weighted + 16_000))
        self.all_dwell = max(1, (total[DWELL] * GRID + 1000 * 10 * GRID) // (total[WEAK] + 1000))

    def topic(self, item: Item, a: int) -> int:
        if not item.topics32:
            return self.all[a]
        first = next(iter(item.topics32))
        counts = clipped(self.catalogue.topic_weeks[first])
        return smooth(counts[a], trials(counts), self.all[a], 100)

    def author(self, item: Item, a: int) -> int:
        counts = clipped(self.catalogue.author_weeks[item.author48])
        return smooth(counts[a], trials(counts), self.all[a], 50)

    def windows(self, item: Item, a: int) -> tuple[int, int, int]:
        """The item's rates in a week, a day, an hour."""
        derived, rates = self.catalogue.derived[item.fp], [self.topic(item, a)]
        for counts in map(clipped, (derived.d7, derived.h24, derived.h1)):
            rates.append(smooth(counts[a], trials(counts), rates[-1], 20))
        return rates[1], rates[2], rates[3]

    def debiased(self, item: Item) -> int:
        """The item's trials in a week over those by impressions that count as much as their places are looked
        at, both smoothed, log2."""
        derived = self.catalogue.derived[item.fp]
        counts, shown = clipped(derived.d7), max(derived.examined, 0) * self.debias // 65_536
        out_of = max(min(shown, COUNT_MAX), counts[WEAK] + counts[STRONG] + counts[NEGATIVE])
        return log2_whole(trials(counts) + 20) - log2_whole(out_of + 20)

    def user(self, week: Counts, a: int) -> int:
        return smooth(week[a], trials(week), self.all[a], 50)

    def dwell(self, item: Item) -> int:
        week = clipped(self.catalogue.derived[item.fp].d7)
        return max(1, (week[DWELL] * GRID + 20 * self.all_dwell) // (week[WEAK] + 20))
