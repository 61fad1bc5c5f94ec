"""Rates (8): how often an item, and its author, are acted on when shown; each window leans on a longer one.

All are logarithms: a lift multiplies. The item's week leans on its first topic, that on all items.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.definition import Family, Told
from models.features.items import D7, H1, H24, Items
from models.features.priors import AUTHOR_WEIGHT, DWELL_WEIGHT, ITEM_WEIGHT
from models.features.whole import RATE_BITS, floor_div, log2_whole, smoothed
from models.items import DWELL
from models.tables import GRID
from models.verbs import Role

F64 = NDArray[np.float64]

rates = Family("rates")

_CERTAIN = float(RATE_BITS * GRID)  # log2 of the rate 1


@rates.item("derived.d7", "topic sums", "total sums", default=-6 * GRID)
def weak_rate_7d(items: Items, out: F64) -> None:
    """log2 of the rate of weak actions in 7 days."""
    np.subtract(items.rates.log(D7, Role.WEAK), _CERTAIN, out=out)


@rates.item(
    "derived.d7", "topic sums", "total sums", default=-8 * GRID, reason=Told("people like it", -6 * GRID)
)
def strong_rate_7d(items: Items, out: F64) -> None:
    """log2 of the rate of strong actions in 7 days."""
    np.subtract(items.rates.log(D7, Role.STRONG), _CERTAIN, out=out)


@rates.item("derived.d7", "topic sums", "total sums", default=-10 * GRID)
def negative_rate_7d(items: Items, out: F64) -> None:
    """log2 of the rate of negative actions in 7 days."""
    np.subtract(items.rates.log(D7, Role.NEGATIVE), _CERTAIN, out=out)


@rates.item("derived.h24", "derived.d7")
def weak_rate_24h(items: Items, out: F64) -> None:
    """log2 of the rate of weak actions in 24 h over that of 7 days."""
    np.subtract(items.rates.log(H24, Role.WEAK), items.rates.log(D7, Role.WEAK), out=out)


@rates.item("derived.h24", "derived.d7", reason=Told("liked more today"))
def strong_rate_24h(items: Items, out: F64) -> None:
    """log2 of the rate of strong actions in 24 h over that of 7 days."""
    np.subtract(items.rates.log(H24, Role.STRONG), items.rates.log(D7, Role.STRONG), out=out)


@rates.item("derived.h24", "derived.d7")
def negative_rate_24h(items: Items, out: F64) -> None:
    """log2 of the rate of negative actions in 24 h over that of 7 days."""
    np.subtract(items.rates.log(H24, Role.NEGATIVE), items.rates.log(D7, Role.NEGATIVE), out=out)


@rates.item("derived.h1", "derived.h24")
def weak_rate_1h(items: Items, out: F64) -> None:
    """log2 of the rate of weak actions in 1 h over that of 24 h."""
    np.subtract(items.rates.log(H1, Role.WEAK), items.rates.log(H24, Role.WEAK), out=out)


@rates.item("derived.examined", "derived.d7", "total sums", reason=Told("seldom stood where people look"))
def rate_debiased(items: Items, out: F64) -> None:
    """log2 of what impressions weighted by place make of the rates of 7 days: to be added to any of these."""
    trials = items.trials(D7) + ITEM_WEIGHT
    np.subtract(log2_whole(trials), log2_whole(items.rates.debiased_trials + ITEM_WEIGHT), out=out)


@rates.item("derived.d7", "total sums")
def dwell_per_action(items: Items, out: F64) -> None:
    """log2 of the mean dwell seconds per weak action in 7 days over that of all items."""
    mean_s = items.rates.totals.dwell_grid
    dwell = items.window(D7, DWELL) * GRID
    dwell += DWELL_WEIGHT * mean_s
    floor_div(dwell, items.window(D7, Role.WEAK) + DWELL_WEIGHT, out=dwell)
    np.maximum(dwell, 1.0, out=dwell)
    np.subtract(log2_whole(dwell), log2_whole(np.array([mean_s])), out=out)


@rates.item("author sums", "total sums")
def author_weak_rate(items: Items, out: F64) -> None:
    """log2 of the rate of weak actions on the author's items in 7 days over that of all items."""
    _author(items, out, Role.WEAK)


@rates.item("author sums", "total sums", reason=Told("from an author people like"))
def author_strong_rate(items: Items, out: F64) -> None:
    """log2 of the rate of strong actions on the author's items in 7 days over that of all items."""
    _author(items, out, Role.STRONG)


@rates.item("author sums", "total sums")
def author_negative_rate(items: Items, out: F64) -> None:
    """log2 of the rate of negative actions on the author's items in 7 days over that of all items."""
    _author(items, out, Role.NEGATIVE)


def _author(items: Items, out: F64, role: Role) -> None:
    counts, prior = items.rates.author_counts, items.rates.totals.rate[role]
    rate = smoothed(counts[role], items.rates.author_trials, prior, AUTHOR_WEIGHT)
    np.subtract(log2_whole(np.maximum(rate, 1.0)), log2_whole(np.array([prior])), out=out)
