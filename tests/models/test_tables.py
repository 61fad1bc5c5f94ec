"""Tables are correctly rounded (checked by exact powers); functions agree with mathematics."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np
import pytest

from models import tables
from models.tables import GRID, exp2_fixed, log2_fixed, sigmoid_fine, sigmoid_fixed


def is_rounded_power(value: int, numerator: int, denominator: int, bits: int) -> bool:
    """value == round(2^(numerator / denominator) * 2^bits), by comparing denominator-th powers."""
    low, high = Fraction(2 * value - 1, 2 << bits), Fraction(2 * value + 1, 2 << bits)
    target = Fraction(2) ** numerator
    return low**denominator <= target < high**denominator


@pytest.mark.parametrize("h", [0, 1, 359, 720, 721, 3_000, 5_759])
def test_long_weights_are_rounded_exactly(h: int) -> None:
    assert is_rounded_power(int(tables.LONG_WEIGHT[h]), h, 720, 12)


@pytest.mark.parametrize("h", [1, 100, 719, 720, 5_000, 11_000])
def test_decays_are_rounded_exactly(h: int) -> None:
    assert is_rounded_power(int(tables.DECAY_POSITIVE[h]), -h, 720, 16)
    if h < len(tables.DECAY_NEGATIVE) - 1:
        assert is_rounded_power(int(tables.DECAY_NEGATIVE[h]), -h, 336, 16)


@pytest.mark.parametrize("k", [0, 1, 2_048, 4_095])
def test_exp2_and_log2_entries_are_rounded_exactly(k: int) -> None:
    assert is_rounded_power(int(tables.EXP2[k]), k, GRID, 30)
    log = int(tables.LOG2[k])
    assert (
        Fraction(2) ** (2 * log - 1) <= Fraction(GRID + k, GRID) ** (2 * GRID) < Fraction(2) ** (2 * log + 1)
    )


def test_tables_never_change() -> None:
    joined = b"".join(
        getattr(tables, n).astype("<i8").tobytes()
        for n in ("LONG_WEIGHT", "DECAY_POSITIVE", "DECAY_NEGATIVE", "EXP2", "LOG2", "SIGMOID")
    )
    assert (
        hashlib.sha256(joined).hexdigest()
        == "0d4050d46bfeb1f2432caec0b3e513cb09035ec956eeec400f998a64e9c349cc"
    )


def test_functions_agree_with_mathematics() -> None:
    x = np.arange(-12 * GRID, 12 * GRID, 37).astype(np.float64)
    assert np.abs(exp2_fixed(x) - np.exp2(x / GRID) * GRID).max() <= 0.51
    positive = np.unique(np.exp(np.arange(0, 35, 0.001)).astype(np.int64)).astype(np.float64)
    assert np.abs(log2_fixed(positive) - np.log2(positive / GRID) * GRID).max() <= 2.0
    logistic = 1 / (1 + np.exp(-x / GRID))
    assert np.abs(sigmoid_fixed(x) - logistic * GRID).max() <= 0.51
    assert np.abs(sigmoid_fine(x) - logistic * 2**24).max() <= 0.501


def test_functions_are_monotone_and_whole() -> None:
    x = np.arange(-3 * GRID, 3 * GRID).astype(np.float64)
    for function, argument in (
        (exp2_fixed, x),
        (log2_fixed, x[x > 0]),
        (sigmoid_fixed, x),
        (sigmoid_fine, x),
    ):
        y = function(argument)
        assert (np.diff(y) >= 0).all()
        assert (y == np.floor(y)).all()


def test_arguments_outside_are_clipped() -> None:
    far = np.array([-1e9, 1e9])
    assert exp2_fixed(far).tolist() == [0.0, float(GRID << 20)]
    assert sigmoid_fixed(far).tolist() == [0.0, GRID]
    assert log2_fixed(np.array([-5.0, 0.0])).tolist() == [-12.0 * GRID] * 2


def test_any_cut_gives_the_same_values() -> None:
    x = np.random.default_rng(1).integers(-(1 << 18), 1 << 18, 1_001).astype(np.float64)
    for function in (exp2_fixed, log2_fixed, sigmoid_fixed, sigmoid_fine):
        single = np.concatenate([function(x[i : i + 1]) for i in range(x.size)])
        np.testing.assert_array_equal(function(x), single)
