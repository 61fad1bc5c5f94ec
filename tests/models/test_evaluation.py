"""Metrics against slow, obvious versions, and intervals that cover what they say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation import bootstrap
from models.evaluation.lists import ndcg, ranked, recall, reciprocal_rank
from models.evaluation.probabilities import auc, calibration, calibration_error, log_loss

Array = np.ndarray[Any, Any]
ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=40)


def arrays(rows: list[tuple[int, int, int]]) -> tuple[Array, Array, Array, Array]:
    query, score, relevance = (np.array(column) for column in zip(*rows, strict=True))
    return (
        query,
        score.astype(np.float64),
        relevance.astype(np.float64),
        np.arange(len(rows), dtype=np.uint64),
    )


def plainly(rows: list[tuple[int, int, int]]) -> dict[int, list[int]]:
    """Relevance by query, best score first, ties by row."""
    found: dict[int, list[tuple[int, int, int]]] = {}
    for number, (query, score, relevance) in enumerate(rows):
        found.setdefault(query, []).append((-score, number, relevance))
    return {query: [r for _, _, r in sorted(found[query])] for query in sorted(found)}


@given(ROWS, st.integers(1, 6))
def test_metrics_equal_their_definitions(rows: list[tuple[int, int, int]], k: int) -> None:
    query, score, relevance, tie = arrays(rows)
    lists = ranked(query, score, tie)
    gains = ndcg(lists, relevance, k)
    firsts = reciprocal_rank(lists, relevance > 0)
    shares = recall(lists, relevance > 0, k)
    for place, (name, values) in enumerate(plainly(rows).items()):
        assert lists.names[place] == name
        got = sum((2**r - 1) / math.log2(n + 2) for n, r in enumerate(values[:k]))
        best = sum((2**r - 1) / math.log2(n + 2) for n, r in enumerate(sorted(values, reverse=True)[:k]))
        first = next((1 / (n + 1) for n, r in enumerate(values) if r), 0.0)
        assert firsts[place] == first
        if best:
            assert gains[place] == pytest.approx(got / best)
            assert shares[place] == sum(r > 0 for r in values[:k]) / sum(r > 0 for r in values)
        else:
            assert np.isnan(gains[place])
            assert np.isnan(shares[place])


def test_ties_break_by_hash_never_by_row() -> None:
    lists = ranked(np.zeros(3, np.int64), np.ones(3), np.array([9, 1, 5], np.uint64))
    assert lists.order.tolist() == [1, 2, 0]


def test_a_score_that_is_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="1 scores are NaN"):
        ranked(np.zeros(2, np.int64), np.array([1.0, np.nan]), np.zeros(2, np.uint64))


def test_negative_relevance_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        ndcg(ranked(np.zeros(1, np.int64), np.ones(1), np.zeros(1, np.uint64)), np.array([-1.0]), 3)


def test_nothing_to_rank() -> None:
    lists = ranked(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint64))
    assert ndcg(lists, np.zeros(0), 10).shape == (0,)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=60))
def test_auc_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    score, label = np.array([s for s, _ in rows], np.float64), np.array([y for _, y in rows])
    pairs = [(p > n) + 0.5 * (p == n) for p in score[label] for n in score[~label]]
    found = auc(score, label)
    assert found == pytest.approx(sum(pairs) / len(pairs)) if pairs else math.isnan(found)


def test_log_loss_of_certainty() -> None:
    assert log_loss(np.array([1.0, 0.0]), np.array([True, False])) == pytest.approx(0, abs=1e-9)
    assert log_loss(np.array([0.0]), np.array([True])) == pytest.approx(-math.log(1e-12))
    assert log_loss(np.array([0.5]), np.array([True])) == pytest.approx(math.log(2))


def test_calibration_of_what_comes_true_is_small_and_of_what_does_not_is_not() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(50_000)
    label = rng.random(50_000) < p
    assert calibration_error(p, label) < 0.01
    assert calibration_error(p**3, label) > 0.1
    assert sum(one.rows for one in calibration(p, label)) == 50_000


def test_equal_predictions_stay_in_one_bin() -> None:
    found = calibration(np.full(100, 0.25), np.arange(100) < 25)
    assert [(one.predicted, one.happened, one.rows) for one in found] == [(0.25, 0.25, 100)]


def test_intervals_cover() -> None:
    """Clusters of unequal size and a shared part each: rows drawn one by one would cover far too seldom."""
    rng, covered, naive = np.random.default_rng(2), 0, 0
    for run in range(200):
        sizes = rng.integers(1, 8, 60)
        cluster = np.repeat(np.arange(60), sizes)
        values = rng.normal(size=60)[cluster] + rng.normal(size=len(cluster)) * 0.3 + 1.0
        found = bootstrap.mean(values, cluster, seed=run, draws=300)
        covered += found.low <= 1.0 <= found.high
        alone = bootstrap.mean(values, seed=run, draws=300)
        naive += alone.low <= 1.0 <= alone.high
    assert 178 <= covered <= 199
    assert naive < 160


def test_sums_in_another_order_are_no_gain() -> None:
    rng = np.random.default_rng(5)
    parts = rng.random((400, 7))
    a = np.array([sum(row) for row in parts.tolist()])
    b = np.array([sum(row[::-1]) for row in parts.tolist()])
    assert (a != b).any()
    assert bootstrap.paired(a, b)[:3] == (0.0, 0.0, 0.0)
    assert not bootstrap.paired(a, b).clear_of_zero


def test_paired_differences_are_narrower() -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(size=500)
    a, b = base + 0.05 + rng.normal(size=500) * 0.1, base
    found = bootstrap.paired(a, b)
    assert found.clear_of_zero
    assert found.high - found.low < 0.05 < bootstrap.mean(a).high - bootstrap.mean(a).low


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(4).random(50)
    assert bootstrap.mean(values, seed=7) == bootstrap.mean(values, seed=7)
    assert bootstrap.mean(values, seed=7) != bootstrap.mean(values, seed=8)


def test_no_values_no_interval() -> None:
    assert bootstrap.mean(np.full(3, np.nan)).clusters == 0
