"""Popularity, velocity and age (8): how much goes on around an item, and how old it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.definition import Family, Told
from models.features.items import D7, H24, Items, Moment
from models.features.whole import floor_div, log2_whole
from models.tables import EPOCH_H, GRID, LONG_WEIGHT
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


@activity.item("index.trend", reason=Told("trending", 8 * GRID))
def trend(items: Items, out: F64) -> None:
    """log2(1 + trend score): engagement of the last hour, times how much faster it is than the day's."""
    score = items.index.trend.take(items.at).astype(np.float64)
    np.minimum(score, TREND_MAX, out=score)
    out[...] = log2_whole(score + 1.0)


@activity.item("derived.h24", reason=Told("popular today", 5 * GRID))
def popularity_24h(items: Items, out: F64) -> None:
    """log2(1 + weak + 4 strong - 8 negative) of 24 h."""
    engaged = items.window(H24, Role.WEAK) + TREND_STRONG * items.window(H24, Role.STRONG)
    engaged -= TREND_NEGATIVE * items.window(H24, Role.NEGATIVE)
    np.clip(engaged, 0, ENGAGEMENT_MAX, out=engaged)
    out[...] = log2_whole(engaged + 1.0)


@activity.item("derived.long", "derived.epoch", reason=Told("popular for long", 5 * GRID))
def popularity_long(items: Items, out: F64) -> None:
    """log2(1 + weak + 4 strong), each halved every 30 days."""
    total = items.long(Role.STRONG) * TREND_STRONG + items.long(Role.WEAK)
    np.clip(total, 0, LONG_MAX, out=total)
    epoch, into_h = divmod(items.hour, EPOCH_H)
    epochs = np.clip(epoch - items.long_epoch, 0, 6)
    if epochs.any():
        floor_div(total, np.ldexp(1.0, EPOCH_HALF_LIVES * epochs), out=total)
    floor_div(total, float(LONG_WEIGHT[into_h]), out=total)
    total += 1.0
    out[...] = log2_whole(total)


@activity.item("derived.d7")
def exposures_7d(items: Items, out: F64) -> None:
    """log2(1 + impressions) of 7 days: low for what few have seen."""
    out[...] = log2_whole(items.window(D7, Role.EXPOSURE) + 1.0)


@activity.moment("derived.last_s", default=NEVER_LOG)
def engaged_ago(moment: Moment, out: F64) -> None:
    """log2(1 + minutes since the last weak or strong action); 20 where there was none."""
    last_s = moment.last_s.astype(np.float64)
    minutes = floor_div(moment.as_of_ms // 1_000 - last_s, 60.0)
    np.maximum(minutes, 0.0, out=minutes)
    minutes += 1.0
    np.minimum(log2_whole(minutes), NEVER_LOG, out=out)
    out[last_s == 0] = NEVER_LOG


@activity.moment("item.created_ms", reason=Told("new", 10 * GRID))
def age(moment: Moment, out: F64) -> None:
    """log2(1 + minutes since the item was created)."""
    out[...] = log2_whole(moment.age_minutes + 1.0)


@activity.moment("item.created_ms")
def age_days(moment: Moment, out: F64) -> None:
    """Days since the item was created, at most 256."""
    floor_div(moment.age_minutes * GRID, DAY_MINUTES, out=out)
    np.minimum(out, AGE_DAYS_MAX * GRID, out=out)
