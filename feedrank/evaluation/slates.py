"""What a model's slates would have earned, from feeds that began with a slate drawn slot by slot.

The target is the same draw by the model's scores: same pool, slots, temperature and author diversity, as the
policy says. RIPS and cascade-DR weigh by products of conditional chances (models.evaluation.offpolicy).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feedrank.dataset.table import DataSet
from feedrank.evaluation.offline import Answer
from models.evaluation.offpolicy import Refused, Value, cascade_dr, rips
from models.labels import SPLITS
from models.policy import Policy
from models.rules import AUTHOR_DIVERSITY, falling
from models.slate_rule import SLOTS_MAX
from models.slates import Scored, given
from models.tables import GRID

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SURFACE = "for_you"
NAMES = ("RIPS", "cascade-DR")
_NONE_DRAWN = "no slate was drawn slot by slot; give the surface a table `slate` in the policy"
_NO_POOL = "no drawn slate has its whole pool in the data set; make it with --candidates"


@dataclass(slots=True)
class _Slates:
    """n slates of K slots: rewards, chances under the log and under the target, the model's guess of what was
    shown and its mean under the target, float64[n, K] each."""

    reward: list[F64]
    logged: list[F64]
    target: list[F64]
    guess: list[F64]
    expected: list[F64]


def answers(data: DataSet, split: str, policy: Policy, scores: F64, expected: F64) -> list[Answer]:
    """RIPS and cascade-DR of a split, or why they are refused. `scores` (whole numbers) and `expected` (a
    model's mean value of an item) float64[n] are of all rows of `data`."""
    drawn = (data.slate_slots > 0) & (data.split == SPLITS.index(split))
    if not drawn.any():
        return [Answer(name, None, _NONE_DRAWN) for name in NAMES]
    slots = int(data.slate_slots[drawn].max())
    found = _Slates([], [], [], [], [])
    rule = policy.surfaces[SURFACE]
    decay = policy.rules.author_diversity_decay if AUTHOR_DIVERSITY in rule.rules else GRID
    factors = falling(decay, policy.rules.author_diversity_floor, SLOTS_MAX)
    authors = np.unique(data.author.astype(str), return_inverse=True)[1].astype(np.int32)
    for pool in _pools(data, drawn & (data.slate_slots == slots)):
        _add(
            found,
            data,
            pool,
            Scored(scores[pool], authors[pool], factors),
            expected[pool],
            rule.slate.temperature,
        )
    if not found.reward:
        return [Answer(name, None, _NO_POOL) for name in NAMES]
    reward, logged, target, guess, mean = (
        np.stack(part) for part in (found.reward, found.logged, found.target, found.guess, found.expected)
    )
    estimates: dict[str, Callable[[], Value]] = {
        "RIPS": lambda: rips(reward, target, logged),
        "cascade-DR": lambda: cascade_dr(reward, target, logged, guess, mean),
    }
    told = []
    for name, estimate in estimates.items():
        try:
            told.append(Answer(name, estimate()))
        except Refused as refused:
            told.append(Answer(name, None, str(refused)))
    return told


def _pools(data: DataSet, chosen: NDArray[np.bool_]) -> list[I64]:
    """Rows of each slate's pool in the order of the feed: its first `slate_pool` entries, all there."""
    rows = np.flatnonzero(chosen & (data.place >= 0) & (data.place < data.slate_pool))
    rows = rows[np.lexsort((data.place[rows], data.slate[rows]))]
    _, starts = np.unique(data.slate[rows], return_index=True)
    found = []
    for pool in np.split(rows, starts[1:]):
        whole = len(pool) == data.slate_pool[pool[0]] and (data.place[pool] == np.arange(len(pool))).all()
        if whole:
            found.append(pool)
    return found


def _add(found: _Slates, data: DataSet, pool: I64, scored: Scored, expected: F64, temperature: int) -> None:
    slots = int(data.slate_slots[pool[0]])
    target, mean = np.empty(slots), np.empty(slots)
    for slot in range(slots):
        weights = given(scored, list(range(slot)), temperature)
        chances = weights / weights.sum()
        target[slot], mean[slot] = chances[slot], chances @ expected
    found.reward.append(np.where(data.shown[pool], data.value[pool], 0.0)[:slots])
    found.logged.append(data.propensity[pool][:slots])
    found.target.append(target)
    found.guess.append(expected[:slots])
    found.expected.append(mean)
