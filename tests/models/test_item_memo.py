"""What is kept of items is what would be worked out anew, and weighing first gives the same sums."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import models
from models.candidates import Query, draw_seeds, gather
from models.features import FEATURES, ItemMemo, Of, Planes, Scene, SceneFeatures, Weights
from models.features.registry import ROWS
from models.item_index import ItemIndex
from models.policy import Policy, parse_policy
from models.postings import Postings
from models.sample_world import sample_world
from tests.models.index_world import AS_OF_MS, play, steps

HOUR_MS = 3_600_000


@cache
def policy() -> Policy:
    return parse_policy((Path(models.__file__).parent / "default_policy.toml").read_text())


def scene(seed: int = 5, users: int = 16, follows: int = 20) -> Scene:
    world = sample_world(policy(), seed, users=users, items=1_200, follows=follows)
    seeds = draw_seeds(1, world.users.fp, ["v"] * users)
    query = Query(world.users, world.index, policy().verbs, policy().candidates, world.as_of_ms, seeds)
    return Scene(world.users, gather(query), world.index, policy().verbs, world.as_of_ms, query.lookups)


def weights(seed: int, used: float) -> Weights:
    random = np.random.default_rng(seed)
    matrix = random.integers(-(1 << 14), 1 << 14, (3, len(FEATURES))).astype(np.float64)
    return Weights(np.where(random.random(len(FEATURES)) < used, matrix, 0.0))


def values(memo: ItemMemo, slots: np.ndarray) -> list[list[float]]:  # type: ignore[type-arg]
    return memo.rows(ROWS[Of.ITEM], slots).tolist()


@pytest.mark.parametrize("used", [0.0, 0.3, 1.0])
def test_sums_are_those_of_all_planes(used: float) -> None:
    for seed in range(3):
        whole, model = scene(seed), weights(seed, used)
        features = SceneFeatures(whole)
        wanted = Planes(features.planes()).weighted(model)
        real = whole.real
        assert (features.weighted(model)[:, real] == wanted[:, real]).all()
        assert (SceneFeatures(whole).weighted(model)[:, real] == wanted[:, real]).all()


def test_some_features_of_some_entries_are_those_of_the_planes() -> None:
    whole, random = scene(), np.random.default_rng(2)
    features = SceneFeatures(whole)
    rows = random.permutation(len(FEATURES))[:20]
    flat = random.choice(np.flatnonzero(whole.real), 50)
    assert (features.some(rows, flat) == Planes(features.planes()).some(rows, flat)).all()


def test_items_are_worked_out_once() -> None:
    whole = scene()
    memo, model = ItemMemo(whole.index), weights(1, 1.0)
    first = SceneFeatures(whole, memo).weighted(model)
    assert memo.made == len(np.unique(whole.at))
    assert (SceneFeatures(whole, memo).weighted(model) == first).all()
    assert memo.made == len(np.unique(whole.at))
    memo.prepare(whole.at, whole.as_of_ms + HOUR_MS)
    assert memo.made == 2 * len(np.unique(whole.at))


def test_another_model_may_come_later() -> None:
    whole = scene()
    memo = ItemMemo(whole.index)
    SceneFeatures(whole, memo).weighted(weights(1, 0.7))
    wanted = SceneFeatures(whole).weighted(weights(2, 0.7))
    assert (SceneFeatures(whole, memo).weighted(weights(2, 0.7)) == wanted).all()


@settings(deadline=None, max_examples=60)
@given(st.lists(steps, min_size=1, max_size=4), st.integers(0, 2))
def test_a_memo_follows_every_change_of_the_index(told: list, hours: int) -> None:  # type: ignore[type-arg]
    index = ItemIndex(20)
    kept, model = ItemMemo(index), weights(1, 1.0)
    for part in told:
        play(part, index)
        live, as_of_ms = np.flatnonzero(index.live), AS_OF_MS + hours * HOUR_MS
        fresh = ItemMemo(index)
        for memo in (kept, fresh):
            memo.prepare(live, as_of_ms)
        assert values(kept, live) == values(fresh, live)
        assert (kept.sums(model)[:, live] == fresh.sums(model)[:, live]).all()


def test_a_memo_grows_with_the_index() -> None:
    index = ItemIndex(10)
    memo, room = ItemMemo(index), len(index.fp)
    index._grow()
    memo.prepare(np.array([room + 5]), AS_OF_MS)
    assert memo.made == 1


def test_authors_that_share_32_bits_are_all_found() -> None:
    groups = Postings(48, 20, 20, lambda item: (item, item))
    same = [0xAAAA_1111_2222_3333, 0xAAAA_4444_2222_3333, 0xAAAA_5555_2222_3333, 0xAAAA_1111_9999_9999]
    joined = groups.intern([f"author-{n}" for n in range(4)], np.array(same, np.uint64))
    items = np.arange(4, dtype=np.int32)
    groups.add(joined, items, items.astype(np.int64), items.astype(np.uint64))
    numbers = joined.tolist()
    asked = np.array([0x2222_3333, 0x7777_7777, 0x9999_9999], np.uint64)

    def found() -> list[tuple[int, int]]:
        which, group = groups.alike(asked)
        return sorted(zip(which.tolist(), group.tolist(), strict=True))

    assert found() == [(0, numbers[0]), (0, numbers[1]), (0, numbers[2]), (2, numbers[3])]
    groups.remove(numbers[1], 1)  # from inside the chain
    assert found() == [(0, numbers[0]), (0, numbers[2]), (2, numbers[3])]
    groups.remove(numbers[2], 2)  # its head
    assert found() == [(0, numbers[0]), (2, numbers[3])]
    groups.remove(numbers[0], 0)
    groups.remove(numbers[3], 3)
    assert found() == []


def test_small_numbers_leave_nothing_behind() -> None:
    groups = Postings(48, 20, 20, lambda item: (item, item))
    own, asked = groups.numbered(np.array([7, 3, 7]), np.array([7, 3, 7]), np.array([[3, 5, -1]]))
    assert own[0] == own[2] != own[1]
    assert sorted(set(own.tolist())) == [1, 2], "tables by these numbers are no wider than they must be"
    assert asked.tolist() == [[own[1], 0, 0]]
    assert groups.numbered(np.array([5]), np.array([7, 3, 5]))[0].tolist() == [0, 0, 1]
