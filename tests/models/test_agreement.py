"""Overlap, rank-biased overlap and tau, against the definitions written out in loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.agreement import Pairs, percentiles

RANKING = st.lists(st.integers(0, 12), max_size=10, unique=True)
BOTH = st.lists(st.tuples(RANKING, RANKING), min_size=1, max_size=6)


def pairs_of(lists: list[tuple[list[int], list[int]]]) -> Pairs:
    return Pairs.of([a for a, _ in lists], [b for _, b in lists])


def plain_rbo(a: list[int], b: list[int], p: float) -> float:
    """RBO_ext, equation 32, one depth after another."""
    short, long = sorted((a, b), key=len)
    s, n = len(short), len(long)
    if n == 0:
        return float("nan")
    if s == 0:
        return 0.0
    x = [0] + [len(set(short[:d]) & set(long[:d])) for d in range(1, n + 1)]
    total = sum(x[d] / d * p**d for d in range(1, n + 1))
    total += sum(x[s] * (d - s) / (s * d) * p**d for d in range(s + 1, n + 1))
    return (1 - p) / p * total + ((x[n] - x[s]) / n + x[s] / s) * p**n


def plain_tau(a: list[int], b: list[int]) -> float:
    common = [item for item in a if item in b]
    signs = [1 if b.index(one) < b.index(other) else -1 for one, other in itertools.combinations(common, 2)]
    return sum(signs) / len(signs) if signs else float("nan")


def plain_overlap(a: list[int], b: list[int], k: int) -> float:
    longest = max(len(a[:k]), len(b[:k]))
    return len(set(a[:k]) & set(b[:k])) / longest if longest else float("nan")


@settings(deadline=None, max_examples=50)
@given(BOTH, st.integers(1, 12), st.floats(0.05, 0.98))
def test_every_measure_is_its_definition(lists: list[tuple[list[int], list[int]]], k: int, p: float) -> None:
    pairs = pairs_of(lists)
    np.testing.assert_allclose(pairs.overlap(k), [plain_overlap(a, b, k) for a, b in lists])
    np.testing.assert_allclose(pairs.rank_biased(p), [plain_rbo(a, b, p) for a, b in lists], atol=1e-12)
    np.testing.assert_allclose(pairs.tau(), [plain_tau(a, b) for a, b in lists])
    assert pairs.common.tolist() == [len(set(a) & set(b)) for a, b in lists]


@settings(deadline=None, max_examples=50)
@given(BOTH, st.floats(0.05, 0.98))
def test_it_does_not_matter_which_comes_first(lists: list[tuple[list[int], list[int]]], p: float) -> None:
    one, other = pairs_of(lists), pairs_of([(b, a) for a, b in lists])
    np.testing.assert_allclose(one.rank_biased(p), other.rank_biased(p))
    np.testing.assert_allclose(one.tau(), other.tau())
    np.testing.assert_array_equal(one.overlap(5), other.overlap(5))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(), min_size=1, max_size=40, unique=True), st.floats(0.05, 0.98))
def test_the_same_list_agrees_wholly_and_its_reverse_not_at_all(items: list[int], p: float) -> None:
    same, turned = Pairs.of([items], [items]), Pairs.of([items], [items[::-1]])
    assert same.rank_biased(p)[0] == pytest.approx(1.0)
    assert same.overlap(3)[0] == 1.0
    if len(items) > 1:
        assert (same.tau()[0], turned.tau()[0]) == (1.0, -1.0)


def test_disjoint_lists_have_nothing_in_common() -> None:
    pairs = Pairs.of([["a", "b"]], [["c", "d", "e"]])
    assert (pairs.rank_biased(0.9)[0], pairs.overlap(2)[0]) == (0.0, 0.0)
    assert np.isnan(pairs.tau()[0])


def test_a_long_feed_of_many_users_is_counted_as_a_short_one() -> None:
    rng = np.random.default_rng(7)
    lists = [(rng.permutation(600)[:500].tolist(), rng.permutation(600)[:480].tolist()) for _ in range(20)]
    pairs = pairs_of(lists)
    np.testing.assert_allclose(pairs.tau()[:3], [plain_tau(a, b) for a, b in lists[:3]])
    np.testing.assert_allclose(pairs.rank_biased(0.98), [plain_rbo(a, b, 0.98) for a, b in lists])


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Pairs.of([["a", "a"]], [["a"]])
    with pytest.raises(ValueError, match="between 0 and 1"):
        Pairs.of([["a"]], [["a"]]).rank_biased(1.0)
    with pytest.raises(ValueError, match="1 or more"):
        Pairs.of([["a"]], [["a"]]).overlap(0)


def test_percentiles_leave_out_what_is_not_known() -> None:
    values = np.array([np.nan, 0.0, 1.0])
    assert percentiles(values, [0, 50, 100]).tolist() == [0.0, 0.5, 1.0]
    assert np.isnan(percentiles(np.array([np.nan]), [50])).all()
