"""Slates drawn slot by slot (10): the first few entries of some feeds, best ones more likely, so that whole
slates can be evaluated later.

A Plackett-Luce draw (Plackett, 1975): each slot shows one of what is left of the pool, with a chance that
halves with every `temperature` that its score is behind the best one's, author diversity given the slots
before. Each slot's chance given those before it is logged: what RIPS and cascade-DR need
(models.evaluation.offpolicy). All in integers but the propensity, a quotient of two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.candidates.query import splitmix64
from models.explore import Slots
from models.rules import weakened
from models.slate_rule import SlateRule
from models.tables import GRID, exp2_fixed

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

SLATE_STREAM = np.uint64(0x736C61746573)
"""'slates': keeps these draws apart from others made of the same seed."""

WEIGHT_BITS = 12
"""The best of what is left weighs 2^24, nothing weighs less than 1: everything in the pool has support."""

_HALF = np.uint64(32)


@dataclass(frozen=True, slots=True)
class Scored:
    """What draws go by: `score` float64[..., C] before author diversity, `author` int32[..., C], `factors`
    float64[k]: what an author's item keeps after 0, 1, ... others (grid integers; 4096 without that rule)."""

    score: F64
    author: NDArray[np.int32]
    factors: F64


def draw_slates(slots: Slots, best: I64, seeds: U64, rule: SlateRule, scored: Scored) -> Slots:
    """Some feeds of `slots` begin with a drawn slate instead; these have no other draws.

    `best` int64[U, C]: places, alive ones first, best first; `seeds` uint64[U]: one per feed.
    """
    if rule.share <= 0:
        return slots
    stream = splitmix64(seeds ^ SLATE_STREAM)
    chosen = stream >> _HALF < np.uint64(round(rule.share * (1 << 32)))
    place, explored, propensity = slots.place.copy(), slots.explored.copy(), slots.propensity.copy()
    drawn = np.zeros((len(seeds), 2), np.int64)
    for user in np.flatnonzero(chosen & (slots.count > 0)).tolist():
        count = int(slots.count[user])
        pool = best[user, : min(rule.pool, int(slots.pool[user]))]
        numbers = (
            splitmix64(stream[user] + np.arange(1, min(rule.slots, count) + 1, dtype=np.uint64)) >> _HALF
        )
        mine = Scored(scored.score[user].take(pool), scored.author[user].take(pool), scored.factors)
        taken, chances = _draw(mine, numbers.tolist(), rule.temperature)
        shown = pool[taken].tolist()
        rest = [one for one in best[user, : count + len(shown)].tolist() if one not in set(shown)]
        place[user, :count] = (shown + rest)[:count]
        explored[user], propensity[user] = False, np.nan
        explored[user, : len(shown)] = True
        propensity[user, : len(shown)] = chances
        drawn[user] = len(shown), len(pool)
    return Slots(place, slots.count, explored, propensity, slots.pool, drawn)


def _draw(pool: Scored, numbers: list[int], temperature: int) -> tuple[list[int], list[float]]:
    """Places in one user's pool, a slot for each number below 2^32, and their chances given those before."""
    taken, chances = list[int](), list[float]()
    for number in numbers:
        weights = given(pool, taken, temperature)
        ends = np.cumsum(weights)
        at = int(np.searchsorted(ends, number * int(ends[-1]) >> 32, "right"))
        taken.append(at)
        chances.append(int(weights[at]) / int(ends[-1]))
    return taken, chances


def given(pool: Scored, taken: list[int], temperature: int) -> I64:
    """int64[m]: weights of a pool of m (score float64[m], author int32[m]) after those `taken`, which weigh
    0; all others at least 1."""
    before = np.array([(pool.author[taken] == one).sum() for one in pool.author.tolist()], np.int64)
    factor = pool.factors.take(np.minimum(before, len(pool.factors) - 1))
    left = np.ones(len(pool.score), np.bool_)
    left[taken] = False
    weights = np.zeros(len(left), np.int64)
    weights[left] = chance_weights(weakened(pool.score, factor)[left], temperature)
    return weights


def chance_weights(score: F64, temperature: int) -> I64:
    """int64[n] >= 1 of scores float64[n] (whole numbers): 2^24 for the best, half of it for every
    `temperature` (grid integer) times the best one's size that a score is behind."""
    best = int(score.max())
    unit = max(temperature * abs(best) // GRID, 1)
    behind = (best - score.astype(np.int64)) * GRID // unit
    weights = exp2_fixed(-np.minimum(behind, 64 * GRID).astype(np.float64) + WEIGHT_BITS * GRID)
    return np.maximum(weights, 1.0).astype(np.int64)
