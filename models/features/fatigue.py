"""Fatigue (8): how often and how lately the user was shown the item."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.definition import Family
from models.features.scene import Scene
from models.features.whole import log2_whole
from models.tables import GRID

F64 = NDArray[np.float64]

TIMES_MAX = 16
DAYS_MAX = 24

fatigue = Family("fatigue")


@fatigue.pair("seen", "item.fp")
def seen_times(scene: Scene, out: F64) -> None:
    """log2(1 + impressions of this item to this user)."""
    out[...] = 0.0
    out.reshape(-1)[scene.seen.place] = log2_whole((scene.seen.times + 1).astype(np.float64))


@fatigue.pair("seen", "item.fp")
def seen_lately(scene: Scene, out: F64) -> None:
    """Impressions of this item to this user (at most 16), halved with every day since the last."""
    out[...] = 0.0
    times, days = np.minimum(scene.seen.times, TIMES_MAX), np.minimum(scene.seen.days, DAYS_MAX)
    out.reshape(-1)[scene.seen.place] = times * GRID >> days
