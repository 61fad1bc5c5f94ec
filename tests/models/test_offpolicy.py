"""Off-policy estimators: unbiased where they may answer, with intervals that cover, and refused elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from models.evaluation.offpolicy import (
    Refused,
    Value,
    cascade_dr,
    doubly_robust,
    effective_sample,
    ips,
    rips,
    snips,
)

Array = np.ndarray[Any, Any]
ACTIONS = 6
ROWS = 1_500
LOGS = 1_000
KINDS = 4


class World:
    """Contexts of 4 kinds, 6 actions, known click rates, a logging and a target policy."""

    def __init__(self, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.rate = rng.uniform(0.1, 0.6, (KINDS, ACTIONS))
        self.logging = _normal((0.75 - self.rate) ** 2)
        self.target = _normal(self.rate**2)
        self.truth = float((self.target * self.rate).sum(axis=1).mean())
        self.guess = np.clip(self.rate + rng.normal(size=self.rate.shape) * 0.1, 0, 1)

    def log(self, seed: int, rows: int = ROWS) -> dict[str, Array]:
        """Columns of one synthetic log."""
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, KINDS, rows)
        action = (rng.random((rows, 1)) > self.logging[kind].cumsum(axis=1)).sum(axis=1)
        reward = (rng.random(rows) < self.rate[kind, action]).astype(np.float64)
        return {
            "reward": reward,
            "target": self.target[kind, action],
            "logged": self.logging[kind, action],
            "predicted": self.guess[kind, action],
            "expected": (self.target[kind] * self.guess[kind]).sum(axis=1),
        }


def _normal(weights: Array) -> Array:
    return weights / weights.sum(axis=1, keepdims=True)


def by_ips(log: dict[str, Array]) -> Value:
    return ips(log["reward"], log["target"], log["logged"])


def by_snips(log: dict[str, Array]) -> Value:
    return snips(log["reward"], log["target"], log["logged"])


def by_dr(log: dict[str, Array]) -> Value:
    return doubly_robust(**log)


ESTIMATORS: list[Callable[[dict[str, Array]], Value]] = [by_ips, by_snips, by_dr]


def coverage(estimate: Callable[[dict[str, Array]], Value], spoil: Any = None) -> float:
    """Share of 1,000 seeded logs whose interval holds the truth."""
    world, held = World(), 0
    for seed in range(LOGS):
        log = world.log(seed)
        if spoil is not None:
            spoil(log, np.random.default_rng(seed))
        found = estimate(log)
        held += found.low <= world.truth <= found.high
    return held / LOGS


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_intervals_cover_the_truth(estimate: Callable[[dict[str, Array]], Value]) -> None:
    assert 0.93 <= coverage(estimate) <= 0.97


def weights_of_one(log: dict[str, Array], rng: np.random.Generator) -> None:
    log["logged"] = log["target"]


def shuffled_propensities(log: dict[str, Array], rng: np.random.Generator) -> None:
    log["logged"] = rng.permutation(log["logged"])


@pytest.mark.parametrize("spoil", [weights_of_one, shuffled_propensities])
@pytest.mark.parametrize("estimate", [by_ips, by_snips])
def test_mutants_do_not_cover(estimate: Callable[[dict[str, Array]], Value], spoil: Any) -> None:
    assert coverage(estimate, spoil) < 0.9


def test_a_model_of_rewards_makes_dr_narrower() -> None:
    log = World().log(1)
    plain, robust = by_ips(log), by_dr(log)
    assert robust.high - robust.low < 0.9 * (plain.high - plain.low)


def test_effective_sample() -> None:
    assert effective_sample(np.ones(7)) == 7
    assert effective_sample(np.array([1.0, 0, 0])) == 1
    assert effective_sample(np.zeros(3)) == 0


def test_too_few_rows_speak_of_the_target() -> None:
    log = World().log(1)
    with pytest.raises(Refused, match=r"effective sample is \d+ of 150 rows, below 200"):
        by_ips({name: column[:150] for name, column in log.items()})
    log["target"] = np.where(np.arange(ROWS) < 100, log["target"], 0.0)
    with pytest.raises(Refused, match="effective sample"):
        by_snips(log)


@pytest.mark.parametrize("bad", [0.0, np.nan, -0.1, 1.5])
def test_a_missing_propensity_is_refused(bad: float) -> None:
    log = World().log(1)
    log["logged"][3] = bad
    for estimate in ESTIMATORS:
        with pytest.raises(Refused, match="1 rows have no propensity"):
            estimate(log)


def test_an_empty_log_is_refused() -> None:
    with pytest.raises(Refused, match="no row has a logged propensity"):
        by_ips({name: column[:0] for name, column in World().log(1).items()})


def test_impossible_targets_are_an_error() -> None:
    log = World().log(1)
    log["target"][0] = 1.2
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        by_ips(log)


# -- slates --------------------------------------------------------------------------------------------------


class Slates:
    """Two slots of three items without replacement; a click depends on this item and the one before."""

    def __init__(self) -> None:
        rng = np.random.default_rng(2)
        self.logged, self.target = rng.uniform(1, 2, 3), np.array([1.0, 2.0, 4.0])
        self.first, self.second = rng.uniform(0.1, 0.5, 3), rng.uniform(0.1, 0.7, (3, 3))
        self.truth = sum(
            self.p(self.target, a, b) * (self.first[a] + self.second[a, b])
            for a, b in product(range(3), repeat=2)
        )

    @staticmethod
    def p(weights: Array, a: int, b: int) -> float:
        if a == b:
            return 0.0
        return float(weights[a] / weights.sum() * weights[b] / (weights.sum() - weights[a]))

    def then(self, x: int) -> float:
        """Mean of the second slot's clicks under the target, after item x."""
        others = [y for y in range(3) if y != x]
        return sum(self.target[y] / (7 - self.target[x]) * self.second[x, y] for y in others)

    def log(self, seed: int, rows: int = 3_000) -> tuple[Array, Array, Array, Array, Array]:
        """reward, target, logged [n, 2], and Q and its mean under the target, of the true model."""
        rng = np.random.default_rng(seed)
        pairs = [(a, b) for a, b in product(range(3), repeat=2) if a != b]
        drawn = rng.choice(len(pairs), rows, p=[self.p(self.logged, a, b) for a, b in pairs])
        a, b = np.array(pairs)[drawn].T
        reward = np.stack([rng.random(rows) < self.first[a], rng.random(rows) < self.second[a, b]], axis=1)

        def slots(weights: Array) -> Array:
            total = weights.sum()
            return np.stack([weights[a] / total, weights[b] / (total - weights[a])], axis=1)

        after = np.array([self.then(x) for x in range(3)])
        q = np.stack([self.first[a] + after[a], self.second[a, b]], axis=1)
        v = np.stack([np.full(rows, (self.target / 7 * (self.first + after)).sum()), after[a]], axis=1)
        return reward.astype(np.float64), slots(self.target), slots(self.logged), q, v


@pytest.mark.parametrize("robust", [False, True])
def test_slate_intervals_cover_the_truth(robust: bool) -> None:
    world, held = Slates(), 0
    for seed in range(400):
        reward, target, logged, q, v = world.log(seed, 1_500)
        found = cascade_dr(reward, target, logged, q, v) if robust else rips(reward, target, logged)
        held += found.low <= world.truth <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_weights_of_one_slot_only_do_not_cover() -> None:
    """The mutant that forgets the prefix."""
    world, held = Slates(), 0
    for seed in range(200):
        reward, target, logged, _, _ = world.log(seed, 1_500)
        weight = target / logged
        parts = (weight * reward).sum(axis=1)
        error = 1.96 * parts.std() / np.sqrt(len(parts))
        held += abs(parts.mean() - world.truth) <= error
    assert held / 200 < 0.9


def test_long_slates_and_holes_are_refused() -> None:
    ones = np.ones((300, 6))
    with pytest.raises(Refused, match="slates of 6 slots"):
        rips(ones, ones, ones)
    holed = np.full((300, 2), 0.5)
    holed[7, 1] = np.nan
    with pytest.raises(Refused, match="1 slates have a slot without propensity"):
        rips(holed, np.full((300, 2), 0.5), holed)
