"""List-relative features (8): how a candidate stands among the others of its user, in order-free integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.definition import Family, Told
from models.features.scene import Scene
from models.features.whole import floor_div
from models.order import PLACE_BITS, placed, places, run_begins
from models.tables import GRID

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

Z_MAX = 8 * GRID
DEVIATION_MIN = 64
_VALUE_MAX = 1 << 45

relative = Family("relative")


@relative.pair("item.created_ms")
def age_rank(scene: Scene, out: F64) -> None:
    """Share of the other candidates that are newer: 0 for the newest."""
    out[...] = share_above(scene.created_ms, scene.real)


@relative.pair("similarity_long")
def similarity_rank(scene: Scene, out: F64) -> None:
    """Share of the other candidates that are more similar to the user's long-term interests."""
    out[...] = share_above(scene.cosines[0].astype(np.int64), scene.real)


@relative.pair("strong_rate_7d", reason=Told("liked more than the rest", GRID))
def strong_rate_z(scene: Scene, out: F64) -> None:
    """log2 of the strong rate of 7 days, less the candidates' mean, over their mean absolute deviation."""
    out[...] = standing(scene.items.plane("strong_rate_7d", scene.at), scene.real)


@relative.pair("weak_rate_7d")
def weak_rate_z(scene: Scene, out: F64) -> None:
    """log2 of the weak rate of 7 days, less the candidates' mean, over their mean absolute deviation."""
    out[...] = standing(scene.items.plane("weak_rate_7d", scene.at), scene.real)


def share_above(values: I64, real: Bools) -> F64:
    """float64[U, C]: floor(4096 * n / (m - 1)), n of the user's m candidates have a greater value.

    |values| < 2^45, C <= 2,048.
    """
    last = 2 * _VALUE_MAX
    keys = _VALUE_MAX - values
    keys[~real] = last
    keys <<= PLACE_BITS
    keys |= np.arange(values.shape[1])
    keys.sort(axis=1)
    above = np.empty(values.shape)
    above.reshape(-1)[placed(places(keys))] = run_begins(keys)
    others = np.maximum(real.sum(axis=1) - 1, 1)[:, None]
    above *= GRID
    return floor_div(above, others, out=above)


def standing(values: F64, real: Bools) -> F64:
    """float64[U, C]: floor(4096 * (v - mean) / max(deviation, 64)) within +-8; mean and mean absolute
    deviation are floored sums over the user's candidates."""
    counted = real.astype(np.float64)
    count = np.maximum(counted.sum(axis=1), 1.0)
    off = values - np.floor(np.vecdot(values, counted) / count)[:, None]
    deviation = np.floor(np.vecdot(np.abs(off), counted) / count)
    off *= GRID
    floor_div(off, np.maximum(deviation, DEVIATION_MIN)[:, None], out=off)
    np.minimum(off, Z_MAX, out=off)
    z: F64 = np.maximum(off, -Z_MAX, out=off)
    return z
