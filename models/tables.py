"""Integer tables (2, 3, 4, 8): decays and the fixed-point exp2, log2 and sigmoid, the same on every machine.

All entries are correctly rounded values of real functions, computed at import with Python's integers at 128
fractional bits: no float function takes part, so another language rebuilds them exactly (docs/state.md).
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

GRID_BITS = 12
GRID = 1 << GRID_BITS
"""Ranking values are integers in units of 1/GRID, held in float64."""

HOUR_MS = 3_600_000
LONG_HALF_LIFE_H = 720
NEGATIVE_HALF_LIFE_H = 336
LONG_HALF_LIVES = 8
EPOCH_H = LONG_HALF_LIVES * LONG_HALF_LIFE_H
EPOCH_MS = EPOCH_H * HOUR_MS
LONG_WEIGHT_BITS = 12
DECAY_BITS = 16

_P = 128  # fractional bits of every intermediate
_ONE = 1 << _P


def _root(value: int, k: int) -> int:
    """The k-th root of value / 2^128, floored to 128 fractional bits (k is factored into small primes)."""
    for prime in (2, 3, 5, 7):
        while k % prime == 0:
            k //= prime
            value = isqrt(value << _P) if prime == 2 else _prime_root(value, prime)
    return value


def _prime_root(value: int, k: int) -> int:
    target, low, high = value << (_P * (k - 1)), 0, max(value, _ONE) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**k <= target else (low, middle)
    return low


def _powers(base: int, count: int, bits: int) -> I64:
    """round(base^n * 2^bits) for n < count; `base` has 128 fractional bits."""
    shift, values, power = _P - bits, [], _ONE
    for _ in range(count):
        values.append((power + (1 << (shift - 1))) >> shift)
        power = (power * base) >> _P
    return np.array(values, np.int64)


def _exp_of_inverse(n: int) -> int:
    """e^(-1/n) with 128 fractional bits, by its series."""
    total = term = _ONE
    for k in range(1, 40):
        term = -term // (n * k)
        total += term
    return total


def _log2_table() -> I64:
    """round(log2(1 + k / GRID) * GRID) for k < GRID: one bit of the logarithm per squaring."""
    bits, values = GRID_BITS + 8, []
    for k in range(GRID):
        x, log = (GRID + k) << (_P - GRID_BITS), 0
        for _ in range(bits):
            x = (x * x) >> _P
            log <<= 1
            if x >= 2 * _ONE:
                x >>= 1
                log |= 1
        values.append((log + (1 << 7)) >> 8)
    return np.array(values, np.int64)


def _sigmoid_table() -> I64:
    base, power, values = _exp_of_inverse(GRID), _ONE, []
    for _ in range(SIGMOID_X_MAX + 1):
        denominator = _ONE + power
        values.append(((_ONE << (SIGMOID_BITS + 1)) + denominator) // (2 * denominator))
        power = (power * base) >> _P
    return np.array(values, np.int64)


LONG_WEIGHT: I64 = _powers(_root(2 * _ONE, LONG_HALF_LIFE_H), EPOCH_H, LONG_WEIGHT_BITS)
"""int64[5,760]: round(2^(h / 720) * 2^12), the weight of a contribution in hour h of its epoch."""

DECAY_POSITIVE: I64 = _powers(_root(_ONE // 2, LONG_HALF_LIFE_H), 17 * LONG_HALF_LIFE_H + 1, DECAY_BITS)
"""int64[12,241]: round(2^(-h / 720) * 2^16); the last entry, for 17 half-lives and more, is set to 0."""

DECAY_NEGATIVE: I64 = _powers(
    _root(_ONE // 2, NEGATIVE_HALF_LIFE_H), 17 * NEGATIVE_HALF_LIFE_H + 1, DECAY_BITS
)
"""int64[5,713]: round(2^(-h / 336) * 2^16), likewise."""

DECAY_POSITIVE[-1] = DECAY_NEGATIVE[-1] = 0

EXP2_BITS = 30
EXP2_MIN, EXP2_MAX = -40 * GRID, 20 * GRID
EXP2: I64 = _powers(_root(2 * _ONE, GRID), GRID, EXP2_BITS)
"""int64[4,096]: round(2^(k / 4096) * 2^30)."""

LOG2: I64 = _log2_table()
"""int64[4,096]: log2(1 + k / 4096) * 4096, rounded."""

SIGMOID_BITS = 24
SIGMOID_X_MAX = 16 * GRID
SIGMOID: I64 = _sigmoid_table()
"""int64[65,537]: round(2^24 / (1 + e^(-k / 4096)))."""

_EXP2_F64 = EXP2.astype(np.float64)
_LOG2_F64 = LOG2.astype(np.float64)
_SIGMOID_F64 = SIGMOID.astype(np.float64)
for _table in (LONG_WEIGHT, DECAY_POSITIVE, DECAY_NEGATIVE, EXP2, LOG2, SIGMOID):
    _table.setflags(write=False)


def decay(weights: I64, hours: I64, table: I64) -> I64:
    """floor(weight * table[min(hours, last)] / 2^16); weights >= 0, negative hours count as 0."""
    return (weights * table[np.minimum(np.maximum(hours, 0), len(table) - 1)]) >> DECAY_BITS


def exp2_fixed(x: F64) -> F64:
    """2^(x / GRID) in units of 1/GRID, rounded half up; x (grid integers) is clipped to EXP2_MIN..EXP2_MAX.

    >>> exp2_fixed(np.array([0.0, 4096.0, -4096.0, 2048.0])).tolist()
    [4096.0, 8192.0, 2048.0, 5793.0]
    """
    clipped = np.clip(x, EXP2_MIN, EXP2_MAX).astype(np.int64)
    scale = (clipped >> GRID_BITS) - (EXP2_BITS - GRID_BITS)
    result: F64 = np.floor(np.ldexp(_EXP2_F64[clipped & (GRID - 1)], scale) + 0.5)
    return result


def log2_fixed(x: F64) -> F64:
    """log2(x / GRID) in units of 1/GRID; x (grid integers) below 1 counts as 1; x < 2^53.

    With e = floor(log2(x)) and k = floor(x * 4096 / 2^e) - 4096 this is (e - 12) * 4096 + LOG2[k].

    >>> log2_fixed(np.array([4096.0, 8192.0, 1.0, 6144.0])).tolist()
    [0.0, 4096.0, -49152.0, 2396.0]
    """
    mantissa, exponent = np.frexp(np.maximum(x, 1.0))  # x = mantissa * 2^exponent, 0.5 <= mantissa < 1
    step = np.floor(mantissa * (2 * GRID)).astype(np.int64) - GRID
    result: F64 = (exponent.astype(np.float64) - 1.0 - GRID_BITS) * GRID + _LOG2_F64[step]
    return result


def sigmoid_fine(x: F64) -> F64:
    """1 / (1 + e^(-x / GRID)) in units of 2^-24; x (grid integers) is clipped to +-SIGMOID_X_MAX."""
    clipped = np.clip(x, -SIGMOID_X_MAX, SIGMOID_X_MAX).astype(np.int64)
    half = _SIGMOID_F64[np.abs(clipped)]
    return np.where(clipped < 0, float(1 << SIGMOID_BITS) - half, half)


def sigmoid_fixed(x: F64) -> F64:
    """The same in units of 1/GRID: floor(fine / 4096 + 1/2).

    >>> sigmoid_fixed(np.array([0.0, 40960.0, -4096.0])).tolist()
    [2048.0, 4096.0, 1102.0]
    """
    result: F64 = np.floor(sigmoid_fine(x) / (1 << (SIGMOID_BITS - GRID_BITS)) + 0.5)
    return result
