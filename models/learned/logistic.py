"""Logistic regression, fitted by Newton's method: the same weights for the same rows, on one machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Labels = NDArray[np.bool_]

STEPS_MAX = 60
DONE = 1e-9
DEVIATION_MIN = 1e-6


@dataclass(frozen=True, slots=True)
class Logistic:
    """P = 1 / (1 + exp(-(weights @ x + bias))) of raw features: normalisation is folded in.

    `weights`, `mean`, `deviation` float64[F]: the last two are what the fit normalised by.
    """

    weights: F64
    bias: float
    mean: F64
    deviation: F64

    def margin(self, features: F64) -> F64:
        """float64[n] of float64[F, n]: log odds."""
        margin: F64 = self.weights @ features + self.bias
        return margin


def fit(features: F64, label: Labels, l2: float, weight: F64 | None = None) -> Logistic:
    """Minimise the mean log loss of n rows plus l2/2 * |normalised weights|^2.

    `features` float64[F, n]. Raises ValueError for NaN or infinite features, or only one class.
    """
    _check(features, label)
    mean, deviation = features.mean(axis=1), features.std(axis=1)
    used = deviation > DEVIATION_MIN
    x = np.zeros_like(features)
    x[used] = (features[used] - mean[used, None]) / deviation[used, None]
    x = np.vstack([x, np.ones(features.shape[1])])
    weights = np.ones(len(label)) if weight is None else weight / weight.mean()
    theta = _newton(x, label.astype(np.float64), weights, l2)
    raw = np.where(used, theta[:-1] / np.where(used, deviation, 1.0), 0.0)
    return Logistic(raw, float(theta[-1] - raw @ mean), mean, np.where(used, deviation, 0.0))


def _newton(x: F64, y: F64, weight: F64, l2: float) -> F64:
    rows = x.shape[1]
    penalty = np.full(len(x), l2)
    penalty[-1] = 0.0
    theta = np.zeros(len(x))
    rate = np.clip(np.average(y, weights=weight), 1e-6, 1 - 1e-6)
    theta[-1] = np.log(rate / (1 - rate))
    loss = _loss(theta, x, y, weight, penalty)
    for _ in range(STEPS_MAX):
        p = sigmoid(theta @ x)
        gradient = x @ (weight * (p - y)) / rows + penalty * theta
        curve = (x * (weight * p * (1 - p))) @ x.T / rows
        curve[np.diag_indices_from(curve)] += penalty + 1e-10
        step = np.linalg.solve(curve, gradient)
        scale, before = 1.0, loss
        while (loss := _loss(theta - scale * step, x, y, weight, penalty)) > before and scale > 1e-4:
            scale /= 2
        theta = theta - scale * step
        if before - loss < DONE * max(1.0, abs(before)):
            break
    return theta


def _loss(theta: F64, x: F64, y: F64, weight: F64, penalty: F64) -> float:
    z = theta @ x
    rows = np.logaddexp(0.0, z) - y * z
    return float((weight * rows).mean() + 0.5 * (penalty * theta**2).sum())


def sigmoid(z: F64) -> F64:
    """1 / (1 + exp(-z)), without overflow."""
    e = np.exp(-np.abs(z))
    p: F64 = np.where(z >= 0, 1.0, e) / (1.0 + e)
    return p


def _check(features: F64, label: Labels) -> None:
    bad = int((~np.isfinite(features)).sum())
    if bad:
        raise ValueError(f"{bad} feature values are NaN or infinite; correct the data set")
    if label.all() or not label.any():
        raise ValueError("all rows have one class; there is nothing to tell apart")
