"""Light on all, heavy on the best: who is put in order by whom, and independent of company."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest

from models.candidates import Query, draw_seeds, gather
from models.features import FEATURE_NAMES, FEATURES, Planes, Scene, SceneFeatures
from models.learned.calibration import Platt, table_of
from models.learned.cascade import Cascade
from models.learned.scorers import Linear, Trees
from models.policy import parse_policy
from models.policy_source import PolicyError
from models.ranker import Ranker
from models.sample_world import sample_world
from models.score import SCORE_MAX
from models.tables import GRID

TEXT = files("models").joinpath("default_policy.toml").read_text()


def one_feature(name: str, weight: float) -> Linear:
    """A model that sees one feature."""
    weights = np.zeros((1, len(FEATURES)), np.int64)
    weights[0, FEATURE_NAMES.index(name)] = round(weight * (1 << 20))
    return Linear(name, weights, np.zeros(1, np.int64), np.stack([table_of(Platt(0.2, 0.0))]), [float(GRID)])


def planes(users: int = 3, candidates: int = 40, seed: int = 1) -> Planes:
    shape = len(FEATURES), users, candidates
    return Planes(np.random.default_rng(seed).integers(-12 * GRID, 12 * GRID, shape).astype(np.float64))


def test_heavy_orders_the_best_and_the_rest_follow_in_lights_order() -> None:
    light, heavy, given = one_feature("age", 1.0), one_feature("trend", 1.0), planes()
    score = Cascade(light, heavy, 10).score(given)
    by_light = np.argsort(-light.score(given), axis=1, kind="stable")
    for u in range(3):
        order = np.argsort(-score[u], kind="stable").tolist()
        best = by_light[u, :10].tolist()
        assert set(order[:10]) == set(best)
        assert order[:10] == sorted(best, key=lambda c: -heavy.score(given)[u, c])
        assert order[10:] == by_light[u, 10:].tolist()


def test_more_than_there_are_is_all_by_heavy() -> None:
    light, heavy, given = one_feature("age", 1.0), one_feature("trend", 1.0), planes()
    assert (Cascade(light, heavy, 500).score(given) == heavy.score(given)).all()


def test_trees_and_linear_are_asked_alike() -> None:
    light, heavy, given = one_feature("age", 1.0), one_feature("trend", 0.7), planes()
    column = FEATURE_NAMES.index("trend")
    trees = Trees(
        "t", [lambda rows: rows[:, column] * 0.7 / GRID], np.stack([table_of(Platt(0.2, 0.0))]), [GRID]
    )
    a, b = (Cascade(light, one, 10).score(given) for one in (heavy, trees))
    assert np.abs(a - b).max() < 2**24 * 1e-4
    assert Cascade(light, heavy, 5).exact
    assert not Cascade(light, trees, 5).exact


def test_scores_stay_within_bounds() -> None:
    light = Linear("l", np.zeros((1, len(FEATURES)), np.int64), np.zeros(1, np.int64),
                   np.stack([table_of(Platt(0.0, 20.0))]), [SCORE_MAX])  # fmt: skip
    score = Cascade(light, one_feature("age", 1.0), 3).score(planes())
    assert np.abs(score).max() <= SCORE_MAX


def test_no_company_changes_a_feed() -> None:
    """Padding of a slice (users with fewer candidates) is never among the best."""
    policy = parse_policy(TEXT)
    world = sample_world(policy, seed=4, users=16, items=400)
    cascade = Cascade(one_feature("similarity_long", 1.0), one_feature("trend", 1.0), 15)
    ranker = Ranker(policy, world.index, 7, cascade)
    versions = ["v"] * len(world.users)
    together = ranker.rank(world.users, "for_you", versions, world.as_of_ms)
    for u, feed in enumerate(together):
        (alone,) = ranker.rank(world.users.part(u, u + 1), "for_you", ["v"], world.as_of_ms)
        assert alone.items.tolist() == feed.items.tolist()
        assert alone.scores.tolist() == feed.scores.tolist()
    seeds = draw_seeds(7, world.users.fp, versions)
    found = gather(Query(world.users, world.index, policy.verbs, policy.candidates, world.as_of_ms, seeds))
    scene = Scene(world.users, found, world.index, policy.verbs, world.as_of_ms)
    best = cascade._best(cascade.light.score(SceneFeatures(scene)), scene.real)
    assert (best.sum(axis=1) == np.minimum(scene.real.sum(axis=1), 15)).all()
    assert not scene.real.all(), "without padding this test shows nothing"


def test_none_is_no_number_of_candidates() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Cascade(one_feature("age", 1.0), one_feature("age", 1.0), 0)


def test_the_policy_names_models() -> None:
    chosen = parse_policy(TEXT + '\n[model]\nlight = "a"\nheavy = "b/c"\nheavy_candidates = 50\n').model
    assert (chosen.light, chosen.heavy, chosen.heavy_candidates) == ("a", "b/c", 50)
    assert parse_policy(TEXT).model.heavy is None


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("light = 3", "light is 3"),
        ('light = ""', "light is ''"),
        ('heavy = "a"\nheavy_candidates = 0', "heavy_candidates is 0"),
        ("heavy_candidates = 10", "has no effect without heavy"),
        ('hevy = "a"', "hevy is not known"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(table: str, told: str) -> None:
    with pytest.raises(PolicyError, match=told) as error:
        parse_policy(TEXT + f"\n[model]\n{table}\n")
    assert error.value.line > 100
