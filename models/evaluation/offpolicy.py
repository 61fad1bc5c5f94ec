"""What another policy would have earned, from logs with propensities: IPS, SNIPS, DR; RIPS and cascade-DR.

Each estimate comes with a 95 % interval, or is refused with the reason.

Item level, for slots that were filled by chance: Horvitz and Thompson, 1952; Swaminathan and Joachims,
NeurIPS 2015; Dudik, Langford and Li, ICML 2011. Slates, slot by slot given the prefix: reward interaction
IPS (McInerney et al., KDD 2020), cascade doubly robust (Kiyohara et al., WSDM 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

EFFECTIVE_MIN = 200.0
"""Effective sample below which an estimate is refused."""

Z95 = 1.959963984540054
PREFIX_MAX = 5
"""Slots of a slate beyond which products of weights say nothing."""


class Refused(ValueError):  # noqa: N818  # a judgement on the log, not a failure
    """The log cannot answer; the text says why and what would help."""


@dataclass(frozen=True, slots=True)
class Value:
    """Estimated mean reward with its 95 % interval; `effective`: (sum w)^2 / sum w^2, of `rows` rows."""

    value: float
    low: float
    high: float
    effective: float
    rows: int


def effective_sample(weight: F64) -> float:
    """(sum w)^2 / sum w^2 (Kish, 1965); 0 where all weights are 0."""
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def checked_weights(target: F64, logged: F64) -> F64:
    """float64[n]: target / logged probabilities of what was shown.

    Raises Refused where propensities are missing or impossible, or too few rows speak of the target.
    """
    if len(target) != len(logged):
        raise ValueError(f"{len(target)} target and {len(logged)} logged probabilities; give one each a row")
    if not len(logged):
        raise Refused("no row has a logged propensity; only slots filled by chance can be evaluated")
    missing = int((~np.isfinite(logged) | (logged <= 0) | (logged > 1)).sum())
    if missing:
        raise Refused(f"{missing} rows have no propensity above 0 and at most 1; explore there")
    if (~np.isfinite(target) | (target < 0) | (target > 1 + 1e-9)).any():
        raise ValueError("a target probability is outside 0..1; correct the policy to evaluate")
    return _enough(target / logged)


def _enough(weight: F64) -> F64:
    effective = effective_sample(weight)
    if effective < EFFECTIVE_MIN:
        raise Refused(
            f"the effective sample is {effective:.0f} of {len(weight)} rows, below {EFFECTIVE_MIN:.0f}; "
            "collect more exploration, or evaluate a policy nearer to the logged one"
        )
    return weight


def _of(parts: F64, weight: F64) -> Value:
    """A mean of independent parts with its normal interval."""
    value, n = float(parts.mean()), len(parts)
    error = Z95 * float(parts.std(ddof=1)) / np.sqrt(n)
    return Value(value, value - error, value + error, effective_sample(weight), n)


def ips(reward: F64, target: F64, logged: F64) -> Value:
    """Inverse propensity score: mean of w * reward."""
    weight = checked_weights(target, logged)
    return _of(weight * reward, weight)


def snips(reward: F64, target: F64, logged: F64) -> Value:
    """Self-normalised: sum of w * reward / sum of w; the interval is that of its linearisation."""
    weight = checked_weights(target, logged)
    value = float((weight * reward).sum() / weight.sum())
    centred = _of(weight * (reward - value) / weight.mean(), weight)
    half = centred.high - centred.value
    return Value(value, value - half, value + half, centred.effective, centred.rows)


def doubly_robust(reward: F64, target: F64, logged: F64, predicted: F64, expected: F64) -> Value:
    """DR: expected + w * (reward - predicted).

    `predicted` float64[n]: a model's reward of what was shown; `expected` float64[n]: the same model's mean
    reward under the target. The model must not have seen these rows.
    """
    weight = checked_weights(target, logged)
    return _of(expected + weight * (reward - predicted), weight)


def _prefix_weights(target: F64, logged: F64) -> F64:
    """float64[n, K]: products of w over slots 0..k. Raises Refused."""
    if logged.ndim != 2 or target.shape != logged.shape:
        raise ValueError(f"slates need probabilities [n, K], not {target.shape} and {logged.shape}")
    if logged.shape[1] > PREFIX_MAX:
        raise Refused(
            f"slates of {logged.shape[1]} slots; products of more than {PREFIX_MAX} weights say nothing. "
            "Evaluate a shorter prefix"
        )
    if not len(logged):
        raise Refused("no slate has logged propensities; only slates drawn by chance can be evaluated")
    missing = int((~np.isfinite(logged) | (logged <= 0) | (logged > 1)).any(axis=1).sum())
    if missing:
        raise Refused(f"{missing} slates have a slot without propensity; leave them out, or explore there")
    weight: F64 = np.cumprod(target / logged, axis=1).astype(np.float64)
    _enough(weight[:, -1])
    return weight


def rips(reward: F64, target: F64, logged: F64) -> Value:
    """RIPS: what a slot earns depends on the slots before. float64[n, K] each, given the prefix."""
    weight = _prefix_weights(target, logged)
    return _of((weight * reward).sum(axis=1), weight[:, -1])


def cascade_dr(reward: F64, target: F64, logged: F64, predicted: F64, expected: F64) -> Value:
    """Cascade-DR. `predicted` float64[n, K]: reward from slot k to the end given what was shown up to k;
    `expected` float64[n, K]: the same, its mean over what the target shows at k."""
    weight = _prefix_weights(target, logged)
    before = np.hstack([np.ones((len(weight), 1)), weight[:, :-1]])
    return _of((weight * (reward - predicted) + before * expected).sum(axis=1), weight[:, -1])
