"""Exploring slots are drawn uniformly, from the seed alone, and their propensities are true."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.explore import Slots, fill_slots

POOL = 12


def fill(seeds: list[int], share: float = 0.3, length: int = 8, dead: int = 3) -> Slots:
    """Candidates 0, 1, ...; the best is the last alive one; the first `dead` ones are out."""
    users = len(seeds)
    alive = np.broadcast_to(np.arange(POOL + dead) >= dead, (users, POOL + dead))
    best = np.concatenate([np.arange(POOL + dead)[dead:][::-1], np.arange(dead)])
    return fill_slots(np.broadcast_to(best, alive.shape), alive, np.array(seeds, np.uint64), share, length)


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=8), st.floats(0, 0.5))
def test_each_item_once_and_only_what_may_be_shown(seeds: list[int], share: float) -> None:
    slots = fill(seeds, share)
    assert slots.count.tolist() == [8] * len(seeds)
    for user in range(len(seeds)):
        shown = slots.place[user].tolist()
        assert len(set(shown)) == 8
        assert min(shown) >= 3
        explored = slots.explored[user]
        assert (slots.propensity[user][explored] == 1 / POOL).all()
        assert np.isnan(slots.propensity[user][~explored]).all()
        ranked = [place for place, x in zip(shown, explored.tolist(), strict=True) if not x]
        drawn = set(slots.place[user][explored].tolist())
        rest = [place for place in range(POOL + 2, 2, -1) if place not in drawn]
        assert ranked == rest[: len(ranked)]


def test_without_exploration_it_is_the_ranking() -> None:
    slots = fill([1, 2], share=0.0)
    assert slots.place.tolist() == [list(range(14, 6, -1))] * 2
    assert not slots.explored.any()


def test_a_seed_gives_the_same_alone() -> None:
    together = fill([5, 6, 7])
    for user, seed in enumerate([5, 6, 7]):
        assert fill([seed]).place[0].tolist() == together.place[user].tolist()


def test_slots_explore_at_the_stated_share_and_draw_uniformly() -> None:
    slots = fill(list(range(20_000)), share=0.1)
    share = slots.explored.mean()
    assert abs(share - 0.1) < 4 * np.sqrt(0.09 / slots.explored.size)
    for place in (0, 3, 7):
        drawn = slots.place[:, place][slots.explored[:, place]]
        counts = np.bincount(drawn, minlength=POOL + 3)[3:]
        expected = len(drawn) / POOL
        assert ((counts - expected) ** 2 / expected).sum() < 31.3  # chi-square, 11 degrees, p = 0.001


def test_pools_smaller_than_a_feed_are_shown_whole() -> None:
    alive = np.array([[True, False, True], [False, False, False]])
    slots = fill_slots(np.array([[2, 0, 1], [0, 1, 2]]), alive, np.array([1, 2], np.uint64), 0.5, 8)
    assert slots.count.tolist() == [2, 0]
    assert sorted(slots.place[0, :2].tolist()) == [0, 2]
