"""What a policy does to scores (no step): each action's share of the score's variance, on a made-up world.

An action that holds nearly all of the variance rules alone: the others could as well have no value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.candidates import Query, draw_seeds, gather
from models.features import Scene, SceneFeatures
from models.policy import HEADS, Policy
from models.sample_world import SampleWorld, sample_world
from models.score import RateLift

SLICE_USERS = 16
SHARE_MAX = 0.6
SAMPLE_SEED = 20_231_114


@dataclass(frozen=True, slots=True)
class Share:
    """One action (a role that items are counted by): what it is worth, its mean probability, and its share of
    the variance of scores within users' candidates."""

    action: str
    value: float
    probability: float
    share: float

    @property
    def rules_alone(self) -> bool:
        return self.share > SHARE_MAX


def variance_shares(policy: Policy, world: SampleWorld | None = None) -> list[Share]:
    """By HEADS. The share of an action is its part's covariance with the score, over the score's variance;
    shares add up to 1 (one below 0 works against the others). All 0 where no score differs."""
    world = world or sample_world(policy, SAMPLE_SEED)
    scorer = RateLift(policy)
    covariance = np.zeros(len(HEADS))
    probability, candidates = np.zeros(len(HEADS)), 0
    for parts, chance in _parts(policy, world, scorer):
        centred = parts - parts.mean(axis=1, keepdims=True)
        covariance += (centred * centred.sum(axis=0)).sum(axis=1)
        probability += chance.sum(axis=1)
        candidates += parts.shape[1]
    shares = covariance / max(covariance.sum(), 1e-300)
    return [
        Share(head.name.lower(), policy.values[head] / 4_096, float(p), float(share))
        for head, p, share in zip(HEADS, probability / max(candidates, 1), shares, strict=True)
    ]


def _parts(
    policy: Policy, world: SampleWorld, scorer: RateLift
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Per user float64[H, c]: what each action adds to the scores of c candidates, and its probability."""
    for start in range(0, len(world.users), SLICE_USERS):
        users = world.users.part(start, start + SLICE_USERS)
        seeds = draw_seeds(SAMPLE_SEED, users.fp, ["0"] * len(users))
        query = Query(users, world.index, policy.verbs, policy.candidates, world.as_of_ms, seeds)
        scene = Scene(users, gather(query), world.index, policy.verbs, world.as_of_ms)
        chances = scorer.probabilities(SceneFeatures(scene)) / (1 << 24)
        values = np.array(scorer.values)[:, None] / 4_096
        for user, real in enumerate(scene.real):
            if real.any():
                chance = chances[:, user, real]
                yield chance * values, chance
