"""The click model: what people in the demo do with a slate. It imports nothing of the ranking.

Position bias follows examination probabilities 1 / (1 + k)^0.6, the shape that click-model studies report
(Chuklin, Markov, de Rijke: Click Models for Web Search, 2015); noise makes some clicks random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demo.world import World, WorldItem

EXAMINATION_EXPONENT = 0.6
NOISE = 0.02
FRESH_HALF_LIFE_MS = 20 * 60_000

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reaction:
    """What happened at one position: the verb and, for clicks, how long they stayed."""

    position: int
    item_id: str
    verb: str
    dwell_ms: int = 0


def appeal(world: World, user: int, items: Sequence[WorldItem], now_ms: int) -> F64:
    """float64[k]: probability of a click on each item if it is looked at. The hidden truth."""
    mixes = np.array([i.mix for i in items])
    quality = np.array([i.quality for i in items])
    age = np.array([max(0, now_ms - i.created_ms) for i in items], np.float64)
    taste = np.sqrt(np.minimum(1.0, mixes @ world.tastes[user] * 2.2))
    fresh = 0.6 + 0.4 * np.exp2(-age / FRESH_HALF_LIFE_MS)
    p: F64 = np.clip(taste * (0.25 + 0.75 * quality) * fresh, 0.0, 1.0) * (1 - NOISE) + NOISE * 0.5
    return p


def examined(positions: int) -> F64:
    """float64[positions]: probability that a position is looked at."""
    p: F64 = np.power(1.0 + np.arange(positions, dtype=np.float64), -EXAMINATION_EXPONENT)
    return p


def react(
    world: World, user: int, slate: Sequence[WorldItem], now_ms: int, rng: np.random.Generator
) -> list[Reaction]:
    """Impressions of what was looked at, then clicks, likes, shares and hides, in order of position."""
    if not slate:
        return []
    p = appeal(world, user, slate, now_ms)
    seen = rng.random(len(slate)) < examined(len(slate))
    done: list[Reaction] = []
    for k in np.flatnonzero(seen).tolist():
        done += _at(k, slate[k].item_id, float(p[k]), rng)
    return done


def _at(k: int, item_id: str, p: float, rng: np.random.Generator) -> list[Reaction]:
    done = [Reaction(k, item_id, "impression")]
    if rng.random() < p:
        done.append(Reaction(k, item_id, "click", int(1_000 + 30_000 * p * rng.random())))
        if rng.random() < 0.4 * p:
            done.append(Reaction(k, item_id, "like"))
        if rng.random() < 0.06 * p:
            done.append(Reaction(k, item_id, "share"))
    elif p < 0.05 and rng.random() < 0.03:
        done.append(Reaction(k, item_id, "hide"))
    return done
