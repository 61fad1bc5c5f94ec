"""Score (9): the default model rate-lift-1 (docs/ranking.md, Score)."""

from __future__ import annotations

from tests.oracle.features import Features
from tests.oracle.numbers import EXP2, GRID, clip, half_up
from tests.oracle.policy import Policy

SCORE_MAX = (1 << 31) - 2


def score_of(features: Features, policy: Policy) -> int:
    """In units of 2^-24."""
    total = sum(
        value * _probability(features, weights)
        for value, weights in zip(policy.values, policy.weights, strict=True)
    )
    return clip(total // GRID, -SCORE_MAX, SCORE_MAX)


def _probability(features: Features, weights: dict[str, int]) -> int:
    y = clip(sum(w * features[name] for name, w in weights.items()) // GRID, -25 * GRID, 0)
    return half_up(EXP2[y % GRID], 6 - (y >> 12))
