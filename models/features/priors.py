"""Smoothed rates and their priors (8): of all items, of topics, of items by window."""

from __future__ import annotations

import weakref
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.examination import UNIT
from models.features.whole import COUNT_MAX, RATE, floor_div, log2_whole, smoothed
from models.items import DWELL
from models.tables import GRID
from models.verbs import Role

if TYPE_CHECKING:
    from models.features.items import Items
    from models.item_index import ItemIndex

F64 = NDArray[np.float64]

PRIOR_RATE = {Role.WEAK: RATE // 20, Role.STRONG: RATE // 100, Role.NEGATIVE: RATE // 500}
"""What is assumed before anything was seen: 5 %, 1 % and 0.2 % of impressions."""

PRIOR_DWELL_S = 10
TOTAL_WEIGHT = 1_000
TOPIC_WEIGHT = 100
AUTHOR_WEIGHT = 50
ITEM_WEIGHT = 20
DWELL_WEIGHT = 20
USER_WEIGHT = 50
D7_SUMS = 2
D7 = 10
_WINDOW_BEFORE = {0: 5, 5: D7}
DEBIAS_BITS = 12
DEBIAS_MAX = 16 << DEBIAS_BITS
"""No page is looked at less than a sixteenth as much as an average place: sums that undos left wrong."""


class Totals:
    """What is expected of anything: sums over all live items of an index, as they are now."""

    def __init__(self, index: ItemIndex) -> None:
        self._counts = [max(int(n), 0) for n in index.statistics.total[D7_SUMS]]
        self._examined = max(index.statistics.examined, 0)

    @cached_property
    def rate(self) -> dict[Role, float]:
        """Rates of all items in 7 days, units of 2^-24, at least 1."""
        counts = self._counts
        trials = max(counts[Role.EXPOSURE], counts[Role.WEAK] + counts[Role.STRONG] + counts[Role.NEGATIVE])
        rates = {}
        for role, prior in PRIOR_RATE.items():
            rate = (counts[role] * RATE + TOTAL_WEIGHT * prior) // (trials + TOTAL_WEIGHT)
            rates[role] = float(max(rate, 1))
        return rates

    @cached_property
    def debias(self) -> float:
        """What a weighted impression counts for, units of 1/4096: so much that over all items weighted and
        plain impressions are as many, and rates by either have the same priors."""
        plain, weighted = self._counts[Role.EXPOSURE] + TOTAL_WEIGHT, self._examined + TOTAL_WEIGHT * UNIT
        return float(min((plain * UNIT << DEBIAS_BITS) // weighted, DEBIAS_MAX))

    @cached_property
    def dwell_grid(self) -> float:
        """Mean dwell seconds per weak action of all items, units of 1/4096, at least 1."""
        seconds = self._counts[DWELL] * GRID + TOTAL_WEIGHT * PRIOR_DWELL_S * GRID
        return float(max(seconds // (self._counts[Role.WEAK] + TOTAL_WEIGHT), 1))


class Rates:
    """Of m items; everything is worked out at most once."""

    def __init__(self, items: Items) -> None:
        # the items own this: a strong reference back would keep their arrays until the garbage collector runs
        self.items: Items = weakref.proxy(items)
        self.totals = Totals(items.index)
        self._rates: dict[tuple[int, int], F64] = {}
        self._logs: dict[tuple[int, int], F64] = {}

    @cached_property
    def author_counts(self) -> F64:
        """float64[5, m]: counts of the author's live items in 7 days."""
        return self._sums(self.items.index.by_author.sums, self.items.author)

    @cached_property
    def author_trials(self) -> F64:
        """float64[m]."""
        return _trials(self.author_counts)

    def of(self, window: int, role: Role) -> F64:
        """float64[m]: the item's rate in a window, units of 2^-24."""
        if (window, role) not in self._rates:
            longer = _WINDOW_BEFORE.get(window)
            prior = self._topic(role) if longer is None else self.of(longer, role)
            count, trials = self.items.window(window, role), self._item_trials(window)
            self._rates[window, role] = smoothed(count, trials, prior, ITEM_WEIGHT)
        return self._rates[window, role]

    def log(self, window: int, role: Role) -> F64:
        """float64[m]: log2 of it (of 1 where it is 0), units of 1/4096."""
        if (window, role) not in self._logs:
            self._logs[window, role] = log2_whole(np.maximum(self.of(window, role), 1.0))
        return self._logs[window, role]

    @cached_property
    def debiased_trials(self) -> F64:
        """float64[m]: trials in 7 days, impressions weighted by place."""
        items = self.items
        trials = floor_div(items.examined * self.totals.debias, float(UNIT << DEBIAS_BITS))
        np.minimum(trials, COUNT_MAX, out=trials)
        engaged = items.window(D7, Role.WEAK) + items.window(D7, Role.STRONG)
        engaged += items.window(D7, Role.NEGATIVE)
        return np.maximum(trials, engaged, out=trials)

    def _topic(self, role: Role) -> F64:
        """float64[m]: the rate of the item's first topic in 7 days; of all items where it has none."""
        prior = self.totals.rate[role]
        rate = smoothed(self._topic_counts[role], self._topic_trials, prior, TOPIC_WEIGHT)
        return np.where(self.items.topic >= 0, rate, prior)

    @cached_property
    def _topic_counts(self) -> F64:
        return self._sums(self.items.index.by_topic.sums, np.maximum(self.items.topic, 0))

    @cached_property
    def _topic_trials(self) -> F64:
        return _trials(self._topic_counts)

    def _item_trials(self, window: int) -> F64:
        return self._trials_by_window.setdefault(window, self.items.trials(window))

    @cached_property
    def _trials_by_window(self) -> dict[int, F64]:
        return {}

    def _sums(self, sums: NDArray[np.int64], group: NDArray[np.int32]) -> F64:
        windows, columns = sums.shape[1:]
        week = sums.reshape(-1, columns).take(group * windows + D7_SUMS, axis=0)
        counts: F64 = week.T.astype(np.float64, order="C")
        np.clip(counts, 0, COUNT_MAX, out=counts)
        return counts


def _trials(counts: F64) -> F64:
    engaged = counts[Role.WEAK] + counts[Role.STRONG] + counts[Role.NEGATIVE]
    trials: F64 = np.maximum(counts[Role.EXPOSURE], engaged, out=engaged)
    return trials
