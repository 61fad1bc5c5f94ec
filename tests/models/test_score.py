"""Scores are exact sums of exact products, however candidates are put together."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import models
from models.features import FEATURE_NAMES, Planes
from models.order import order, placed, places, run_places, ties
from models.policy import HEADS, Policy, parse_policy
from models.score import SCORE_MAX, RateLift, Scorer, exp2_rate
from models.tables import EXP2
from models.verbs import Role


def policy() -> Policy:
    return parse_policy((Path(models.__file__).parent / "default_policy.toml").read_text())


def random_features(seed: int, users: int, candidates: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(-(1 << 15), 1 << 15, (len(FEATURE_NAMES), users, candidates)).astype(np.float64)


def test_the_default_model_is_exact_and_names_its_policy() -> None:
    scorer: Scorer = RateLift(policy())
    assert scorer.exact
    assert policy().hash in scorer.name


def test_scores_are_those_of_whole_numbers() -> None:
    features, wanted = random_features(1, 2, 9), policy()
    found = RateLift(wanted).score(Planes(features))
    for user in range(2):
        for c in range(9):
            total = 0
            for head in HEADS:
                y = sum(
                    w * int(features[FEATURE_NAMES.index(f), user, c])
                    for f, w in wanted.weights[head].items()
                )
                y = max(-25 * 4096, min(0, y // 4096))
                p = Fraction(int(EXP2[y % 4096])) * Fraction(2) ** ((y >> 12) - 6) + Fraction(1, 2)
                total += wanted.values[head] * p.__floor__()
            assert found[user, c] == total // 4096


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1_000), st.integers(1, 7))
def test_cuts_do_not_change_scores(seed: int, cut: int) -> None:
    features, scorer = random_features(seed, 3, 11), RateLift(policy())
    whole = scorer.score(Planes(features))
    parts = [scorer.score(Planes(np.ascontiguousarray(part))) for part in np.split(features, [cut], axis=2)]
    assert (np.concatenate(parts, axis=1) == whole).all()
    backwards = scorer.score(Planes(np.ascontiguousarray(features[:, ::-1])))
    assert (backwards[::-1] == whole).all()


def test_more_of_what_is_liked_scores_higher() -> None:
    features = np.zeros((len(FEATURE_NAMES), 1, 3))
    for name, rate in (("weak_rate_7d", -5), ("strong_rate_7d", -7), ("negative_rate_7d", -9)):
        features[FEATURE_NAMES.index(name)] = rate * 4096
    features[FEATURE_NAMES.index("similarity_long"), 0, 1] = 4096
    features[FEATURE_NAMES.index("author_short_neg"), 0, 2] = 3 * 4096
    plain, liked, disliked = RateLift(policy()).score(Planes(features))[0]
    assert liked > plain > disliked


def test_probabilities_end_at_one_and_at_nothing() -> None:
    rates = exp2_rate(np.array([5.0, 0.0, -1.0, -24 * 4096.0, -25 * 4096.0, -1e9]))
    assert rates.tolist() == [1 << 24, 1 << 24, 16_774_377, 1, 1, 1]
    assert (np.diff(exp2_rate(np.arange(-26.0 * 4096, 10))) >= 0).all()


@given(
    st.lists(
        st.tuples(st.integers(-SCORE_MAX, SCORE_MAX), st.integers(0, 3), st.booleans()),
        min_size=1,
        max_size=40,
    )
)
def test_order_is_by_score_then_fingerprint_then_place(entries: list[tuple[int, int, bool]]) -> None:
    score = np.array([[s for s, _, _ in entries]], np.float64)
    fp = np.array([[f << 60 for _, f, _ in entries]], np.uint64)
    alive = np.array([[a for _, _, a in entries]])
    found = places(order(score, ties(fp), alive))[0].tolist()
    ranked = sorted(range(len(entries)), key=lambda k: (-entries[k][0], entries[k][1], k))
    wanted = [k for k in ranked if entries[k][2]]
    assert found[: len(wanted)] == wanted
    assert sorted(found) == list(range(len(entries)))


@given(st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=4))
def test_how_many_equal_ones_stand_before(rows: list[list[int]]) -> None:
    wanted = [[row[:k].count(v) for k, v in enumerate(row)] for row in rows]
    assert run_places(np.array(rows)).tolist() == wanted
    assert placed(np.array([[1, 0], [0, 1]])).tolist() == [[1, 0], [2, 3]]


def test_heads_are_the_roles_that_items_are_counted_by() -> None:
    assert HEADS == (Role.WEAK, Role.STRONG, Role.NEGATIVE)
