"""Slates that were drawn tell what another model's slates would earn; where they cannot, they say so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feedrank.dataset.table import DataSet, load
from feedrank.evaluation.offline import answers as uniform
from feedrank.evaluation.slates import answers
from models.policy import Policy, parse_policy
from models.rules import falling
from models.slate_rule import SLOTS_MAX
from models.slates import Scored, given
from tests.both_paths import edited
from tests.feedrank.test_train import data_set

SLATES, POOL, SLOTS, CANDIDATES = 2_000, 5, 3, 8
SCALE = 1 << 24
POLICY = parse_policy(
    edited({"explore_share = 0.02": "slate = { share = 0.5, slots = 3, pool = 5, temperature = 0.3 }"})
)
APPEAL = np.array([0.1, 0.5, 0.3, 0.2, 0.6, 0.9, 0.9, 0.9])
"""Chance of an action on candidate 0, 1, ...; the last three were never in a pool."""

LOGGED = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
MODEL = np.array([0.6, 1.0, 0.8, 0.7, 1.0, 0.1, 0.1, 0.1])
AUTHORS = np.array([1, 1, 2, 3, 3, 4, 5, 6], np.int32)


def pool_of(scores: np.ndarray, policy: Policy) -> Scored:  # type: ignore[type-arg]
    rules = policy.rules
    factors = falling(rules.author_diversity_decay, rules.author_diversity_floor, SLOTS_MAX)
    return Scored(np.floor(scores[:POOL] * SCALE), AUTHORS[:POOL], factors)


def drawn(scores: np.ndarray, rng: np.random.Generator, policy: Policy) -> tuple[list[int], list[float]]:  # type: ignore[type-arg]
    """A slate of three of the first five candidates, by these scores."""
    pool = pool_of(scores, policy)
    taken: list[int] = []
    chances = []
    for _ in range(SLOTS):
        weights = given(pool, taken, policy.surfaces["for_you"].slate.temperature)
        at = int(rng.choice(POOL, p=weights / weights.sum()))
        chances.append(float(weights[at] / weights.sum()))
        taken.append(at)
    return taken, chances


def earned(slate: list[int], rng: np.random.Generator) -> list[float]:
    """Two in a row are tiring: what a slot earns depends on the one before."""
    rewards: list[float] = []
    for k, item in enumerate(slate):
        p = APPEAL[item] * (0.5 if k and rewards[-1] else 1.0)
        rewards.append(float(rng.random() < p))
    return rewards


def worth(scores: np.ndarray, taken: list[int], last: float = 0.0) -> float:  # type: ignore[type-arg]
    """What slates by these scores earn in the mean, over all that may be drawn; `last`: the chance that the
    slot before was acted on."""
    if len(taken) == SLOTS:
        return 0.0
    weights = given(pool_of(scores, POLICY), taken, POLICY.surfaces["for_you"].slate.temperature)
    total = 0.0
    for item in np.flatnonzero(weights).tolist():
        p = APPEAL[item] * (1 - 0.5 * last)
        total += weights[item] / weights.sum() * (p + worth(scores, [*taken, item], p))
    return float(total)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Feeds that began with a drawn slate; all candidates are in the data set."""
    rows = load(data_set(tmp_path_factory.mktemp("slates") / "set.parquet", rows=SLATES * CANDIDATES))
    rng = np.random.default_rng(3)
    candidate = np.tile(np.arange(CANDIDATES), SLATES)
    place, value = np.full(len(rows), -1), np.zeros(len(rows))
    propensity, shown = np.full(len(rows), np.nan), np.zeros(len(rows), np.bool_)
    for slate in range(SLATES):
        items, chances = drawn(LOGGED, rng, POLICY)
        first = slate * CANDIDATES
        feed = items + [one for one in range(CANDIDATES) if one not in items]
        place[[first + one for one in feed]] = np.arange(CANDIDATES)
        at = [first + one for one in items]
        propensity[at], shown[at], value[at] = chances, True, earned(items, rng)
    return replace(
        rows,
        slate=np.repeat(np.arange(SLATES), CANDIDATES),
        place=place,
        value=value,
        propensity=propensity,
        shown=shown,
        split=np.full(len(rows), 2, np.int8),
        author=np.array([str(one) for one in AUTHORS])[candidate].astype(object),
        slate_slots=np.full(len(rows), SLOTS),
        slate_pool=np.full(len(rows), POOL),
    )


def of(scores: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return np.tile(scores, SLATES)


def test_the_value_of_another_models_slates(log: DataSet) -> None:
    truth, before = worth(MODEL, []), worth(LOGGED, [])
    assert truth > before + 0.1
    ours, dr = answers(log, "test", POLICY, np.floor(of(MODEL) * SCALE), of(APPEAL))
    assert (ours.estimator, dr.estimator) == ("RIPS", "cascade-DR")
    for one in (ours, dr):
        assert one.value is not None
        assert one.value.rows == SLATES
        assert one.value.low < truth < one.value.high
        assert one.value.low > before - 0.05
    assert ours.value is not None
    assert dr.value is not None
    assert dr.value.high - dr.value.low < ours.value.high - ours.value.low, "a good guess narrows it"


def test_the_logged_model_itself_has_weights_of_one(log: DataSet) -> None:
    found = answers(log, "test", POLICY, np.floor(of(LOGGED) * SCALE), of(APPEAL))[0].value
    assert found is not None
    assert found.effective == pytest.approx(SLATES)
    assert found.value == pytest.approx(log.value.sum() / SLATES)


def test_a_mutant_is_noticed(log: DataSet) -> None:
    """With propensities of other slots the logged model's own value no longer comes out."""
    wrong = replace(log, propensity=np.where(np.isfinite(log.propensity), 0.5, np.nan))
    found = answers(wrong, "test", POLICY, np.floor(of(LOGGED) * SCALE), of(APPEAL))[0].value
    assert found is None or abs(found.value - log.value.sum() / SLATES) > 0.2


def refusal(log: DataSet, split: str = "test", scores: np.ndarray = MODEL) -> set[str]:  # type: ignore[type-arg]
    return {one.refused for one in answers(log, split, POLICY, np.floor(of(scores) * SCALE), of(APPEAL))}


def test_what_the_log_cannot_answer_is_refused(log: DataSet) -> None:
    (why,) = refusal(replace(log, slate_slots=np.zeros(len(log), np.int64)))
    assert "no slate was drawn" in why
    assert "no slate was drawn" in refusal(log, "valid").pop()
    (why,) = refusal(replace(log, place=np.where(log.shown, log.place, -1)))
    assert "--candidates" in why
    missing = replace(log, propensity=np.where(log.place == 1, np.nan, log.propensity))
    assert "without propensity" in refusal(missing).pop()
    (why,) = refusal(log, scores=np.array([1e-4, 1e-4, 1e-4, 1e-4, 1.0, 0.1, 0.1, 0.1]) ** 2)
    assert why == "" or "effective sample" in why
    few = replace(log, split=np.where(log.slate < 100, 2, 0).astype(np.int8))
    assert "effective sample" in refusal(few).pop()
    long = np.full(len(log), 6)
    assert "6 slots" in refusal(replace(log, slate_slots=long, slate_pool=np.full(len(log), 8))).pop()


def test_slots_of_a_slate_are_not_taken_for_uniform_ones(log: DataSet) -> None:
    found = uniform(log, "test", of(MODEL), of(APPEAL))
    assert all("no shown row has a propensity" in one.refused for one in found), "these are no uniform draws"
