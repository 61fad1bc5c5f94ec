"""Slates drawn slot by slot: every one as likely as its logged chances say, and none in other feeds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from models.explore import Slots, fill_slots
from models.policy import PolicyError, parse_policy
from models.slate_rule import SlateRule
from models.slates import Scored, chance_weights, draw_slates, given
from models.tables import GRID
from streams.policy_file import read_policy
from tests.both_paths import edited

POOL, LENGTH = 6, 10
RULE = SlateRule(share=0.5, slots=3, pool=5, temperature=GRID // 4)
FACTORS = np.array([GRID, GRID // 2, GRID // 4], np.float64)


def drawn(users: int, rule: SlateRule = RULE, share: float = 0.0, score: float = 1 << 24) -> Slots:
    """Six candidates with scores falling by a tenth; the first three of one author; the last is dead."""
    seeds = np.arange(users, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    alive = np.broadcast_to(np.arange(POOL + 1) < POOL, (users, POOL + 1))
    best = np.broadcast_to(np.arange(POOL + 1), alive.shape).astype(np.int64)
    slots = fill_slots(best, alive, seeds, share, LENGTH)
    scores = np.broadcast_to(np.floor(score * (1 - 0.1 * np.arange(POOL + 1))), alive.shape)
    author = np.broadcast_to(np.array([7, 7, 7, 8, 9, 10, 11], np.int32), alive.shape)
    return draw_slates(slots, best, seeds, rule, Scored(scores, author, FACTORS))


def test_chances_are_true() -> None:
    slots = drawn(12_000)
    some = slots.slate[:, 0] > 0
    assert abs(some.mean() - 0.5) < 0.02
    assert (slots.slate[some] == (3, 5)).all()
    shown = Counter(map(tuple, slots.place[some, :3].tolist()))
    expected = {}
    for places, chances in zip(
        slots.place[some, :3].tolist(), slots.propensity[some, :3].tolist(), strict=True
    ):
        expected[tuple(places)] = float(np.prod(chances))
    assert sum(expected.values()) == pytest.approx(1.0, abs=0.02), "all slates, each by its own chances"
    n = some.sum()
    off = sum((shown[one] - n * p) ** 2 / (n * p) for one, p in expected.items() if n * p >= 5)
    cells = sum(n * p >= 5 for p in expected.values())
    assert off < cells + 4 * np.sqrt(2 * cells), "chi-square"


def test_a_feed_holds_each_item_once_and_the_rest_in_order() -> None:
    slots = drawn(500)
    for user in range(500):
        places, count = slots.place[user, :POOL].tolist(), int(slots.slate[user, 0])
        assert sorted(places) == list(range(POOL))
        assert places[count:] == sorted(places[count:])
        assert slots.explored[user].tolist() == [k < count for k in range(slots.explored.shape[1])]
        assert np.isfinite(slots.propensity[user]).tolist() == slots.explored[user].tolist()
        if count:
            assert max(places[:count]) < 5, "only from the pool"


def test_drawn_slates_and_uniform_slots_do_not_mix() -> None:
    mixed = drawn(400, share=0.5)
    some = mixed.slate[:, 0] > 0
    assert mixed.explored[some, 3:].sum() == 0
    uniform = mixed.propensity[~some][mixed.explored[~some]]
    assert len(uniform) > 100
    assert (uniform == 1 / POOL).all()


def test_off_it_changes_nothing() -> None:
    alive = np.ones((3, 4), np.bool_)
    slots = fill_slots(np.tile(np.arange(4), (3, 1)), alive, np.arange(3, dtype=np.uint64), 0.5, 4)
    assert draw_slates(slots, np.tile(np.arange(4), (3, 1)), np.arange(3, dtype=np.uint64), SlateRule(),
                       Scored(np.zeros((3, 4)), np.zeros((3, 4), np.int32), FACTORS)) is slots  # fmt: skip


def test_a_chance_halves_with_every_temperature() -> None:
    weights = chance_weights(np.array([1000.0, 900.0, 800.0, -1e9]), GRID // 10)
    assert weights[0] == 1 << 24
    assert weights[1] == pytest.approx(1 << 23, rel=0.01)
    assert weights[2] == pytest.approx(1 << 22, rel=0.02)
    assert weights[3] == 1, "everything has support"
    assert chance_weights(np.array([0.0, 0.0]), 1).tolist() == [1 << 24] * 2
    assert chance_weights(np.array([-10.0, -20.0]), GRID)[1] < 1 << 24
    assert drawn(50, score=-float(1 << 20)).slate.any(), "scores below 0 are drawn from, too"


def test_an_author_that_was_shown_is_less_likely_next() -> None:
    pool = Scored(np.array([1e6, 1e6, 1e6]), np.array([1, 1, 2], np.int32), FACTORS)
    first, second = given(pool, [], GRID // 4), given(pool, [0], GRID // 4)
    assert first.tolist() == [1 << 24] * 3
    assert second[0] == 0
    assert 0 < second[1] < second[2]


def test_fewer_candidates_than_slots() -> None:
    alive = np.array([[True, False, False], [False, False, False]])
    best = np.tile(np.arange(3), (2, 1))
    seeds = np.array([1, 2], np.uint64)
    slots = fill_slots(best, alive, seeds, 0.0, 5)
    scored = Scored(np.zeros((2, 3)), np.zeros((2, 3), np.int32), FACTORS)
    found = draw_slates(slots, best, seeds, SlateRule(1.0, 3, 20, GRID), scored)
    assert found.slate.tolist() == [[1, 1], [0, 0]]
    assert found.propensity[0, 0] == 1.0


def test_the_policy_says_how() -> None:
    text = edited({"explore_share = 0.02": "slate = { share = 0.1, slots = 4, temperature = 0.5 }"})
    assert parse_policy(text).surfaces["for_you"].slate == SlateRule(0.1, 4, 20, GRID // 2)
    assert read_policy().surfaces["for_you"].slate.share == 0
    for wrong in ("slots = 9", "slots = 4, pool = 3", "share = 0.9", "temperature = 0.0", "warmth = 1"):
        with pytest.raises(PolicyError, match=r"surfaces\.for_you\.slate"):
            parse_policy(edited({"explore_share = 0.02": f"slate = {{ {wrong} }}"}))
    with pytest.raises(PolicyError, match="by time"):
        parse_policy(edited({"explore_share = 0.0\n": "slate = { share = 0.1 }\n"}))
