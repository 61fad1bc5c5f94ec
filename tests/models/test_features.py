"""One contract for all features: whole numbers within bounds, the same in any company and any padding."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import models
from models.candidates import Candidates, Query, draw_seeds, gather
from models.features import (
    FEATURE_MAX,
    FEATURE_NAMES,
    FEATURES,
    Feature,
    Scene,
    SceneFeatures,
    compute,
)
from models.features.pairs import Pairs
from models.features.pairs import asked as asked_for
from models.features.relative import share_above, standing
from models.features.whole import direction, log2_whole, smoothed
from models.policy import Policy, parse_policy
from models.sample_world import AS_OF_MS, SampleWorld, sample_world
from models.tables import GRID, log2_fixed

EACH = pytest.mark.parametrize("feature", FEATURES, ids=FEATURE_NAMES)


@cache
def policy() -> Policy:
    return parse_policy((Path(models.__file__).parent / "default_policy.toml").read_text())


@cache
def world() -> SampleWorld:
    return sample_world(policy(), seed=8, users=16, items=1_500)


def scene(start: int = 0, stop: int = 16, padding: int = 0) -> Scene:
    users = world().users.part(start, stop)
    seeds = draw_seeds(1, users.fp, ["v"] * len(users))
    found = gather(Query(users, world().index, policy().verbs, policy().candidates, AS_OF_MS, seeds))
    wide = ((0, 0), (0, padding))
    item = np.pad(found.item, wide, constant_values=-1)
    return Scene(
        users, Candidates(item, np.pad(found.sources, wide), {}), world().index, policy().verbs, AS_OF_MS
    )


@cache
def planes() -> tuple[np.ndarray, np.ndarray]:
    whole = scene()
    return compute(whole), whole.real


def value(feature: Feature, of: Scene) -> np.ndarray:
    everywhere = np.arange(of.item.size)
    return SceneFeatures(of).some(np.array([FEATURES.index(feature)]), everywhere).reshape(of.shape)


def test_there_are_about_forty_and_each_has_a_name_of_its_own() -> None:
    assert 38 <= len(FEATURES) <= 64
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
    meanings = [feature.meaning for feature in FEATURES]
    assert len(set(meanings)) == len(meanings)


@EACH
def test_values_are_whole_and_bounded(feature: Feature) -> None:
    values, real = planes()
    mine = values[FEATURE_NAMES.index(feature.name)][real]
    assert (mine == np.floor(mine)).all()
    assert (np.abs(mine) < FEATURE_MAX).all()


@EACH
def test_values_differ_between_candidates_or_users(feature: Feature) -> None:
    values, real = planes()
    if feature.name not in ("hour", "session_depth"):
        assert len(np.unique(values[FEATURE_NAMES.index(feature.name)][real])) > 1


@EACH
def test_a_user_alone_has_the_values_that_company_has(feature: Feature) -> None:
    values, real = planes()
    for user in (0, 9, 15):
        alone = value(feature, scene(user, user + 1))
        width = int(real[user].sum())
        together = values[FEATURE_NAMES.index(feature.name), user, :width]
        assert alone[0, :width].tolist() == together.tolist()


@EACH
def test_padding_changes_nothing(feature: Feature) -> None:
    values, _ = planes()
    padded = value(feature, scene(padding=37))
    width = values.shape[2]
    real = planes()[1]
    assert (padded[:, :width][real] == values[FEATURE_NAMES.index(feature.name)][real]).all()


@EACH
def test_definitions_are_complete(feature: Feature) -> None:
    assert feature.version >= 1
    assert feature.inputs
    assert feature.meaning.endswith(".")
    if feature.reason:
        assert feature.reason.words.islower() or feature.reason.words[0].islower()


@EACH
def test_every_feature_stands_in_the_page(feature: Feature) -> None:
    page = (Path(models.__file__).parents[1] / "docs" / "ranking.md").read_text()
    assert f"`{feature.name}`" in page
    if feature.reason:
        assert f"| `{feature.name}` | {feature.reason.words} | {feature.reason.usual} |" in page


def test_memory_is_used_again() -> None:
    whole = scene()
    memory = np.empty(len(FEATURES) * whole.shape[0] * whole.shape[1] + 5)
    assert np.shares_memory(compute(whole, memory), memory)


@given(st.lists(st.integers(1, (1 << 53) - 1), min_size=1))
def test_logarithms_agree_with_the_table(numbers: list[int]) -> None:
    x = np.array(numbers, np.float64)
    assert (log2_whole(x) == log2_fixed(x) + 12 * GRID).all()


@given(st.integers(0, 1 << 28), st.integers(0, 1 << 30), st.integers(0, 1 << 24), st.integers(1, 1_000))
def test_smoothed_rates_are_exact(count: int, trials: int, prior: int, weight: int) -> None:
    found = smoothed(np.array([float(count)]), np.array([float(trials)]), float(prior), weight)
    assert found[0] == min(1 << 24, (count * (1 << 24) + weight * prior) // (trials + weight))


@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 40)), max_size=60, unique=True),
    st.lists(st.integers(0, 40), min_size=1, max_size=20),
)
def test_pairs_are_found_exactly(held: list[tuple[int, int]], asked: list[int]) -> None:
    spread = 0x9E37_79B9_7F4A % (1 << 40)
    pairs = Pairs(
        16, np.array([u for u, _ in held], np.int64), np.array([k * spread for _, k in held], np.uint64)
    )
    keys = np.tile(np.array([k * spread for k in asked], np.uint64), 16)
    place, which = pairs.find(asked_for(np.repeat(np.arange(16), len(asked)), keys))
    found = {(int(p) // len(asked), int(p) % len(asked)): int(w) for p, w in zip(place, which, strict=True)}
    for user in range(16):
        for column, key in enumerate(asked):
            entry = found.get((user, column))
            assert (entry is not None) == ((user, key) in held)
            assert entry is None or held[entry] == (user, key)


def test_many_pairs_in_few_cells_are_found() -> None:
    rng = np.random.default_rng(3)
    keys = [np.unique(rng.integers(0, 1 << 48, 5_000).astype(np.uint64)) for _ in range(16)]
    pairs = Pairs.of(keys)
    for user in range(16):
        wanted = np.concatenate([keys[user], keys[user] ^ np.uint64(1)])
        place = pairs.find(asked_for(np.full(len(wanted), user), wanted))[0]
        assert place.tolist() == list(range(len(keys[user])))


@given(st.lists(st.integers(-1_000, 1_000), min_size=1, max_size=30), st.integers(0, 5))
def test_standing_among_the_others(values: list[int], padding: int) -> None:
    row = np.array([values + [7] * padding])
    real = np.arange(row.shape[1])[None] < len(values)
    count = len(values)
    above = share_above(row, real)[0, :count]
    assert above.tolist() == [sum(o > v for o in values) * GRID // max(1, count - 1) for v in values]
    off = [v - sum(values) // count for v in values]
    deviation = max(64, sum(map(abs, off)) // count)
    wanted = [max(-8 * GRID, min(8 * GRID, o * GRID // deviation)) for o in off]
    assert standing(row.astype(np.float64), real)[0, :count].tolist() == wanted


def test_directions_keep_signs_and_fill_the_range() -> None:
    scaled = direction(np.array([[1, -2, 4], [0, 0, 0]]))
    assert scaled.tolist() == [[31.0, -63.0, 127.0], [0.0, 0.0, 0.0]]
