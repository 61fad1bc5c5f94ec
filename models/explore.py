"""Exploration (10): uniform slots, whose outcome can be evaluated later.

Each slot explores with probability e; its item is drawn uniformly from all that may be shown, so that every
item has the propensity 1 / |pool| there. The other slots hold the ranking without the drawn items. In some
feeds slates that are drawn slot by slot take their place: models.slates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.candidates.query import splitmix64
from models.order import true_places

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

EXPLORE_STREAM = np.uint64(0x6578706C6F7265)
"""'explore': keeps these draws apart from others made of the same seed."""

_HALF = np.uint64(32)


@dataclass(frozen=True, slots=True)
class Slots:
    """What is emitted: `place` int64[U, L] of candidates, the first `count` int64[U] of each row; `explored`
    bool[U, L]; `propensity` float64[U, L], nan where a slot did not explore; `pool` int64[U]: how many may be
    shown; `slate` int64[U, 2]: how many slots at the top were drawn one by one, and from how many."""

    place: I64
    count: I64
    explored: Bools
    propensity: F64
    pool: I64
    slate: I64


def fill_slots(best: I64, alive: Bools, seeds: U64, share: float, length: int) -> Slots:
    """Feeds of at most `length` from places `best` int64[U, C] (alive ones first, best first).

    `seeds` uint64[U]: one per feed. `share`: P(a slot explores).
    """
    pool = np.count_nonzero(alive, axis=1)
    length = min(length, best.shape[1])
    count = np.minimum(pool, length)
    explored = np.zeros((len(best), length), np.bool_)
    propensity = np.full(explored.shape, np.nan)
    if share > 0:
        decides, draws = _hashes(seeds, length)
        explored = (decides < np.uint64(round(share * (1 << 32)))) & (np.arange(length) < count[:, None])
    user, slot = true_places(explored)
    if not len(user):
        return Slots(best[:, :length], count, explored, propensity, pool, np.zeros((len(pool), 2), np.int64))
    drawn = _draw(user.tolist(), draws[user, slot].tolist(), pool.tolist())
    drawn_place = np.flatnonzero(alive)[np.cumsum(pool)[user] - pool[user] + drawn] - user * alive.shape[1]
    free = np.ones(alive.shape, np.bool_)
    free[user, drawn_place] = False
    best = best[:, : length + int(explored.sum(axis=1).max())]  # drawn ones leave no more holes than that
    rest = free.reshape(-1).take(best + np.arange(len(best))[:, None] * alive.shape[1])
    ranked = np.zeros(best.shape, np.int64)
    left = rest.reshape(-1).nonzero()[0]
    column = (np.cumsum(rest, axis=1) - 1).reshape(-1).take(left)
    ranked.reshape(-1)[left // best.shape[1] * best.shape[1] + column] = best.reshape(-1).take(left)
    before = np.cumsum(explored, axis=1)  # explored slots up to each one
    place = np.take_along_axis(ranked, np.maximum(np.arange(length) - before, 0), axis=1)
    place[user, slot] = drawn_place
    propensity[user, slot] = 1.0 / pool[user]
    return Slots(place, count, explored, propensity, pool, np.zeros((len(pool), 2), np.int64))


def _hashes(seeds: U64, length: int) -> tuple[U64, U64]:
    """Two numbers below 2^32 per slot s: the upper halves of splitmix64(S + 2 s) and (S + 2 s + 1) with
    S = splitmix64(seed ^ EXPLORE_STREAM). SplitMix64: Steele, Lea, Flood, OOPSLA 2014."""
    stream = splitmix64(seeds ^ EXPLORE_STREAM)
    numbers = np.arange(2 * length, dtype=np.uint64)
    hashes = splitmix64(stream[:, None] + numbers) >> _HALF
    return hashes[:, 0::2], hashes[:, 1::2]


def _draw(users: list[int], numbers: list[int], pools: list[int]) -> list[int]:
    """Places in the users' pools: one draw per (user, number below 2^32), users in order, each without
    replacement. The last of what is left takes the drawn place; `moved` knows which have moved where."""
    drawn: list[int] = []
    moved: dict[int, int] = {}
    last, left = -1, 0
    for user, number in zip(users, numbers, strict=True):
        if user != last:
            moved, last, left = {}, user, pools[user]
        at = number * left >> 32
        left -= 1
        drawn.append(moved.get(at, at))
        moved[at] = moved.get(left, left)
    return drawn
