"""Arithmetic of features (8): integers held in float64, and logarithms of them on the grid of 1/4096."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.tables import GRID, GRID_BITS, LOG2

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

RATE_BITS = 24
RATE = 1 << RATE_BITS
"""Rates and probabilities are integers in units of 2^-24."""

COUNT_MAX = 1 << 28
"""Counts are clipped to this: times 2^24 they stay below 2^53."""

_MANTISSA_BITS = 52
_BIAS = 1_023 << GRID_BITS
_BEND = (LOG2 - np.arange(GRID)).astype(np.float64)


def log2_whole(x: F64) -> F64:
    """log2(x) in units of 1/4096 of integers 1 <= x < 2^53 (C-contiguous): e * 4096 + LOG2[k] with
    e = floor(log2(x)) and k = floor(x * 4096 / 2^e) - 4096.

    >>> log2_whole(np.array([1.0, 2.0, 3.0])).tolist()
    [0.0, 4096.0, 6492.0]
    """
    steps = x.view(np.int64) >> (_MANTISSA_BITS - GRID_BITS)  # exponent and the mantissa's first 12 bits
    bend = _BEND.take(steps & (GRID - 1))
    steps -= _BIAS
    bend += steps
    return bend


def smoothed(count: F64, trials: F64, prior: F64 | float, weight: int) -> F64:
    """A rate in units of 2^-24: floor((count * 2^24 + weight * prior) / (trials + weight)), at most 2^24.

    Beta smoothing: `prior` (units of 2^-24) counts like `weight` trials. The quotient of integers below 2^53,
    floored, is exact.
    """
    rate = count * RATE
    rate += weight * prior
    rate /= trials + weight
    np.floor(rate, out=rate)
    return np.minimum(rate, RATE, out=rate)


def floor_div(dividend: F64, divisor: F64 | float, out: F64 | None = None) -> F64:
    """floor(dividend / divisor) of integers below 2^53; exact."""
    out = np.divide(dividend, divisor, out=out)
    return np.floor(out, out=out)


def direction(vector: I64) -> NDArray[np.float32]:
    """float32[U, n] integers in -127..127 of int64[U, n]: sign * (|v| * 127 // max |v|), zeros of zeros."""
    size = np.abs(vector)
    most = np.maximum(size.max(axis=1, keepdims=True), 1)
    scaled: NDArray[np.float32] = (np.sign(vector) * (size * 127 // most)).astype(np.float32)
    return scaled
