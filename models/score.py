"""Score (9): from features to one number per candidate.

The default model needs no training: of each role (weak, strong, negative) a probability 2^y, y the weighted
sum of features, rates among them; the score is the sum of the probabilities times what the policy says they
are worth. Exact: integers below 2^53 and tables, so no order of summation matters.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.features import FEATURE_NAMES, Features, Weights
from models.features.whole import RATE_BITS
from models.policy import HEADS, Policy
from models.tables import EXP2, EXP2_BITS, GRID, GRID_BITS

F64 = NDArray[np.float64]

SCORE_BITS = RATE_BITS
"""Scores are integers in units of 2^-24."""

SCORE_MAX = (1 << 31) - 2
EXPONENT_MIN = -25 * GRID
"""2^-25 and less rounds to 0 or 1 unit: further down nothing changes."""


class Scorer(Protocol):
    """A model. `exact`: equal bytes whatever is scored together; others are compared within a tolerance."""

    @property
    def name(self) -> str: ...
    @property
    def exact(self) -> bool: ...
    def score(self, features: Features) -> F64:
        """Float64[U, C]: integers within +-SCORE_MAX (units of 2^-24)."""
        ...


class RateLift:
    """The default model: smoothed rates, lifted by what the user likes. Takes its weights from the policy."""

    exact = True

    def __init__(self, policy: Policy) -> None:
        self.name = f"rate-lift-1-{policy.hash}"
        weights = np.zeros((len(HEADS), len(FEATURE_NAMES)))
        for row, head in enumerate(HEADS):
            for feature, weight in policy.weights[head].items():
                weights[row, FEATURE_NAMES.index(feature)] = weight
        # both are in units of 1/4096: divided here by 2^12, the sums are too, and stay exact
        self._weights = Weights(weights / GRID)
        self.values = [float(policy.values[head]) for head in HEADS]

    def score(self, features: Features) -> F64:
        """See Scorer."""
        score: F64 | None = None
        for exponent, value in zip(features.weighted(self._weights), self.values, strict=True):
            # one head at a time stays in the processor's cache
            worth = np.multiply(_rate(exponent), value, dtype=np.float64)
            score = worth if score is None else np.add(score, worth, out=score)
        assert score is not None
        score *= 1 / GRID
        np.floor(score, out=score)
        return np.clip(score, -SCORE_MAX, SCORE_MAX, out=score)

    def probabilities(self, features: Features) -> F64:
        """float64[H, U, C] in 0..2^24, by HEADS."""
        return exp2_rate(features.weighted(self._weights))


def _rates() -> NDArray[np.float32]:
    """float32[102,401]: floor(EXP2[k] * 2^(e - 6) + 1/2) for y = 4096 e + k = -102,400 .. 0."""
    y = np.arange(EXPONENT_MIN, 1)
    shift = EXP2_BITS - RATE_BITS - (y >> GRID_BITS)
    rates: NDArray[np.int64] = (EXP2[y & (GRID - 1)] + (np.int64(1) << (shift - 1))) >> shift
    return rates.astype(np.float32)


_RATES = _rates()


def exp2_rate(y: F64) -> F64:
    """min(1, 2^(y / 4096)) in units of 2^-24, of floor(y) within -25 * 4096..0: from a table.

    >>> exp2_rate(np.array([0.0, -4096.0, 99.0, -999999.0])).tolist()
    [16777216.0, 8388608.0, 16777216.0, 1.0]
    """
    return _rate(y).astype(np.float64)


def _rate(y: F64) -> NDArray[np.float32]:
    """The same, as float32 holds it: up to 2^24 exactly."""
    whole = (y - EXPONENT_MIN).astype(np.int64)  # what is below 0, cut towards it, is clipped to 0 below
    return _RATES.take(whole, mode="clip")
