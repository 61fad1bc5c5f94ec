"""Popularity, velocity and age (8): how much goes on around an item, and how old it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.definition import Family, Told
from models.features.scene import D7, H24, Scene
from models.features.whole import floor_div, log2_whole
from models.tables import EPOCH_MS, GRID, HOUR_MS, LONG_WEIGHT
from models.trending import ENGAGEMENT_MAX, TREND_NEGATIVE, TREND_STRONG
from models.verbs import Role

F64 = NDArray[np.float64]

MINUTE_MS = 60_000
DAY_MINUTES = 1_440
AGE_DAYS_MAX = 256
NEVER_LOG = 20 * GRID
EPOCH_HALF_LIVES = 8
LONG_MAX = 1 << 52
TREND_MAX = 1 << 52

activity = Family("activity")


@activity.feature("index.trend", reason=Told("trending", 8 * GRID))
def trend(scene: Scene, out: F64) -> None:
    """log2(1 + trend score): engagement of the last hour, times how much faster it is than the day's."""
    score = scene.index.trend.take(scene.at).astype(np.float64)
    np.minimum(score, TREND_MAX, out=score)
    out[...] = log2_whole(score + 1.0)


@activity.feature("derived.h24", reason=Told("popular today", 5 * GRID))
def popularity_24h(scene: Scene, out: F64) -> None:
    """log2(1 + weak + 4 strong - 8 negative) of 24 h."""
    engaged = scene.window(H24, Role.WEAK) + TREND_STRONG * scene.window(H24, Role.STRONG)
    engaged -= TREND_NEGATIVE * scene.window(H24, Role.NEGATIVE)
    np.clip(engaged, 0, ENGAGEMENT_MAX, out=engaged)
    out[...] = log2_whole(engaged + 1.0)


@activity.feature("derived.long", "derived.epoch", reason=Told("popular for long", 5 * GRID))
def popularity_long(scene: Scene, out: F64) -> None:
    """log2(1 + weak + 4 strong), each halved every 30 days."""
    total = scene.long(Role.STRONG) * TREND_STRONG + scene.long(Role.WEAK)
    np.clip(total, 0, LONG_MAX, out=total)
    epoch, into_ms = divmod(scene.as_of_ms, EPOCH_MS)
    epochs = np.clip(epoch - scene.long_epoch, 0, 6)
    if epochs.any():
        floor_div(total, np.ldexp(1.0, EPOCH_HALF_LIVES * epochs), out=total)
    floor_div(total, float(LONG_WEIGHT[into_ms // HOUR_MS]), out=total)
    total += 1.0
    out[...] = log2_whole(total)


@activity.feature("derived.d7")
def exposures_7d(scene: Scene, out: F64) -> None:
    """log2(1 + impressions) of 7 days: low for what few have seen."""
    out[...] = log2_whole(scene.window(D7, Role.EXPOSURE) + 1.0)


@activity.feature("derived.last_s", default=NEVER_LOG)
def engaged_ago(scene: Scene, out: F64) -> None:
    """log2(1 + minutes since the last weak or strong action); 20 where there was none."""
    last_s = scene.last_s.reshape(scene.shape).astype(np.float64)
    minutes = floor_div(scene.as_of_ms // 1_000 - last_s, 60.0)
    np.maximum(minutes, 0.0, out=minutes)
    minutes += 1.0
    np.minimum(log2_whole(minutes), NEVER_LOG, out=out)
    out[last_s == 0] = NEVER_LOG


@activity.feature("item.created_ms", reason=Told("new", 10 * GRID))
def age(scene: Scene, out: F64) -> None:
    """log2(1 + minutes since the item was created)."""
    out[...] = log2_whole(scene.age_minutes + 1.0)


@activity.feature("item.created_ms")
def age_days(scene: Scene, out: F64) -> None:
    """Days since the item was created, at most 256."""
    floor_div(scene.age_minutes * GRID, DAY_MINUTES, out=out)
    np.minimum(out, AGE_DAYS_MAX * GRID, out=out)
