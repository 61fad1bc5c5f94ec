"""Intervals by bootstrap over clusters (users, queries): what is drawn again is what was independent."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

DRAWS = 2_000
LEVEL = 0.95
ROUNDING = 1e-9
"""Sums of the same numbers in another order differ by less."""


class Estimate(NamedTuple):
    """A mean with its interval, and of how many clusters."""

    value: float
    low: float
    high: float
    clusters: int

    @property
    def clear_of_zero(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


NOTHING = Estimate(float("nan"), float("nan"), float("nan"), 0)


def mean(
    values: F64,
    cluster: NDArray[np.integer] | None = None,
    weight: F64 | None = None,
    seed: int = 1,
    draws: int = DRAWS,
) -> Estimate:
    """The weighted mean of values float64[n] (nan left out) with a percentile interval at 95 %.

    Whole clusters int64[n] are drawn with replacement (None: each value is one). The mean of a draw is the
    ratio of its sums, so clusters may differ in size.
    """
    there = ~np.isnan(values)
    if not there.any():
        return NOTHING
    weights = (np.ones(len(values)) if weight is None else weight)[there]
    number = np.arange(there.sum()) if cluster is None else np.unique(cluster[there], return_inverse=True)[1]
    top = np.bincount(number, values[there] * weights).astype(np.float64)
    bottom = np.bincount(number, weights).astype(np.float64)
    value = float(top.sum() / bottom.sum())
    low, high = _interval(_ratios(top, bottom, seed, draws))
    return Estimate(value, low, high, len(top))


def paired(
    a: F64, b: F64, cluster: NDArray[np.integer] | None = None, seed: int = 1, draws: int = DRAWS
) -> Estimate:
    """The mean of a - b float64[n], measured on the same queries: much narrower than two intervals.

    Differences within rounding are none: two orders of the same items would else differ clear of zero.
    """
    difference = a - b
    difference[np.abs(difference) < ROUNDING] = 0.0
    return mean(difference, cluster, None, seed, draws)


def _ratios(top: F64, bottom: F64, seed: int, draws: int) -> F64:
    """float64[draws]. Multinomial counts instead of indices: the same bootstrap, without n x draws memory."""
    generator = np.random.default_rng(seed)
    n = len(top)
    share = np.full(n, 1.0 / n)
    ratios = np.empty(draws)
    for draw in range(draws):
        counts = generator.multinomial(n, share)
        total = counts @ bottom
        ratios[draw] = counts @ top / total if total > 0 else np.nan
    return ratios


def _interval(ratios: F64) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(ratios, [tail, 1 - tail])
    return float(low), float(high)
