"""Learned models: fitting finds what made the data, calibration comes true, scorers are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.features import FEATURE_MAX, FEATURES, Planes
from models.features.whole import RATE
from models.learned.calibration import (
    ENTRIES,
    MARGIN_MAX,
    STEP,
    Platt,
    fit_isotonic,
    fit_platt,
    look_up,
    table_of,
)
from models.learned.logistic import Logistic, fit, sigmoid
from models.learned.scorers import Linear, Trees, fixed_point
from models.score import SCORE_MAX
from models.tables import GRID

Array = np.ndarray[Any, Any]


def made(rows: int = 20_000, seed: int = 1) -> tuple[Array, Array, Array]:
    """Features, labels and the weights that made them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4, rows)) * np.array([[1.0], [10.0], [0.1], [0.0]]) + 3.0
    weights = np.array([1.0, -0.05, 4.0, 0.0])
    y = rng.random(rows) < sigmoid(weights @ (x - 3.0) - 1.0)
    return x, y, weights


def test_newton_finds_the_weights() -> None:
    x, y, weights = made()
    model = fit(x, y, 1e-6)
    assert np.abs(model.weights - weights).max() < 0.3
    assert model.weights[3] == 0  # it never varies
    assert np.abs(model.margin(x).mean() - (weights @ (x - 3) - 1).mean()) < 0.05


def test_the_gradient_is_zero_where_newton_stops() -> None:
    x, y, _ = made(2_000)
    model = fit(x, y, 1e-8)
    gradient = (x - x.mean(axis=1, keepdims=True)) @ (sigmoid(model.margin(x)) - y) / len(y)
    assert np.abs(gradient).max() < 1e-4


def test_separable_rows_do_not_run_away() -> None:
    x = np.array([[-1.0, -2.0, 1.0, 2.0] * 10])
    model = fit(x, x[0] > 0, 1e-3)
    assert np.isfinite(model.weights).all()
    assert model.weights[0] > 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers_are_refused(bad: float) -> None:
    x, y, _ = made(100)
    x[2, 5] = bad
    with pytest.raises(ValueError, match="1 feature values are NaN or infinite"):
        fit(x, y, 1e-3)


@pytest.mark.parametrize("label", [True, False])
def test_one_class_is_refused(label: bool) -> None:
    x, y, _ = made(100)
    with pytest.raises(ValueError, match="one class"):
        fit(x, np.full_like(y, label), 1e-3)


def test_platt_undoes_a_wrong_scale() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=40_000) * 2
    y = rng.random(40_000) < sigmoid(truth)
    found = fit_platt(truth * 3 + 5, y)
    assert found.slope == pytest.approx(1 / 3, rel=0.05)
    assert np.abs(found.probability(truth * 3 + 5) - sigmoid(truth)).max() < 0.02


def test_isotonic_rises_and_comes_true() -> None:
    rng = np.random.default_rng(3)
    margin = rng.normal(size=30_000)
    p = np.clip(0.5 + 0.4 * np.sign(margin) * np.sqrt(np.abs(margin) / 4), 0.01, 0.99)
    found = fit_isotonic(margin, rng.random(30_000) < p)
    assert (np.diff(found.value) >= 0).all()
    assert (np.diff(found.margin) > 0).all()
    assert np.abs(found.probability(margin) - p).mean() < 0.02


def test_isotonic_never_says_never() -> None:
    found = fit_isotonic(np.arange(100.0), np.arange(100) >= 50)
    assert 0 < found.value.min() < 0.02
    assert 0.98 < found.value.max() < 1


@given(st.floats(0.05, 5), st.floats(-8, 8))
def test_a_table_rises_and_says_what_was_calibrated(slope: float, offset: float) -> None:
    table = table_of(Platt(slope, offset))
    assert (table.shape, table.dtype) == ((ENTRIES,), np.int32)
    assert (np.diff(table) >= 0).all()
    margin = np.linspace(-MARGIN_MAX, MARGIN_MAX, 999)
    units = look_up(table, np.floor(margin * GRID))
    assert (np.diff(units) >= 0).all()
    assert np.abs(units / RATE - Platt(slope, offset).probability(margin)).max() < 1e-2 * max(1, slope**2)


def test_look_up_is_level_outside() -> None:
    table = table_of(Platt(1.0, 0.0))
    far = look_up(table, np.array([-1e12, -MARGIN_MAX * GRID, MARGIN_MAX * GRID, 1e12]))
    assert far[0] == far[1] == table[0]
    assert far[2] == far[3]
    assert far[3] == pytest.approx(table[-1], abs=2)


def plain_score(
    features: list[int], weights: Array, bias: list[int], tables: Array, values: list[int]
) -> int:
    """The page's formula in Python's integers."""
    total = 0
    for head, row in enumerate(weights.tolist()):
        margin = (sum(w * f for w, f in zip(row, features, strict=True)) + bias[head]) >> 20
        place = min(max(margin, -MARGIN_MAX * GRID), MARGIN_MAX * GRID - 1) + MARGIN_MAX * GRID
        entry, part = divmod(place, STEP)
        low, high = int(tables[head][entry]), int(tables[head][entry + 1])
        total += (low * (STEP - part) + high * part) // STEP * values[head]
    return min(max(total // GRID, -SCORE_MAX), SCORE_MAX)


def linear(features: int, seed: int = 4) -> tuple[Linear, Array, list[int], Array, list[int]]:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-(16 << 20), 16 << 20, (3, features))
    bias = rng.integers(-(1 << 44), 1 << 44, 3)
    tables = np.stack([table_of(Platt(s, o)) for s, o in ((0.01, -1), (0.3, 0), (1.0, -3))])
    values = [4096, 3 * 4096, -8 * 4096]
    return Linear("l", weights, bias, tables, values), weights, bias.tolist(), tables, values


def test_the_linear_scorer_is_exact_at_the_limits() -> None:
    scorer, weights, bias, tables, values = linear(len(FEATURES))
    rng = np.random.default_rng(5)
    features = rng.integers(-FEATURE_MAX, FEATURE_MAX + 1, (len(FEATURES), 3, 20)).astype(np.float64)
    features[:, 0, 0], features[:, 0, 1] = FEATURE_MAX, -FEATURE_MAX
    features[:, 1] = np.rint(features[:, 1] / 1e5)
    found = scorer.score(Planes(features))
    for u in range(3):
        for c in range(20):
            one = features[:, u, c].astype(np.int64).tolist()
            assert found[u, c] == plain_score(one, weights, bias, tables, values)


@given(st.integers(0, 1 << 32))
def test_a_candidate_scores_alike_in_any_company(seed: int) -> None:
    scorer = linear(len(FEATURES))[0]
    features = (
        np.random.default_rng(seed).integers(-50_000, 50_000, (len(FEATURES), 4, 30)).astype(np.float64)
    )
    alone = scorer.score(Planes(features[:, 2:3, 7:8]))
    assert scorer.score(Planes(features))[2, 7] == alone[0, 0]


def test_fixed_point_keeps_probabilities() -> None:
    x, y, _ = made(5_000)
    grid = np.rint(x * GRID)
    model = fit(grid / GRID, y, 1e-3)
    weights, bias = fixed_point(model)
    margin = np.floor((weights.astype(np.float64) @ grid + bias) / (1 << 20)) / GRID
    assert np.abs(margin - model.margin(grid / GRID)).max() < 1e-3


def test_weights_that_would_not_stay_exact_are_refused() -> None:
    zeros = np.zeros(2)
    with pytest.raises(ValueError, match=r"weights of features \[1\] are beyond 16"):
        fixed_point(Logistic(np.array([1.0, 17.0]), 0.0, zeros, zeros))


def test_trees_score_by_their_predictor() -> None:
    tables = np.stack([table_of(Platt(1.0, 0.0))])
    scorer = Trees("t", [lambda rows: rows[:, 0] / GRID], tables, [4096.0])
    features = Planes(np.array([[[0.0, 4096.0, -4096.0]], [[1.0, 2.0, 3.0]]]))
    p = scorer.probabilities(features)[0, 0] / RATE
    assert p == pytest.approx(sigmoid(np.array([0.0, 1.0, -1.0])), abs=1e-6)
    assert scorer.score(features).tolist() == np.floor(scorer.probabilities(features)[0]).tolist()
    assert not scorer.exact
