"""Context (8): the hour, the session and the user's own habits; equal for all candidates of a user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.definition import Family
from models.features.priors import USER_WEIGHT
from models.features.scene import Scene
from models.features.whole import log2_whole, smoothed
from models.tables import GRID, HOUR_MS
from models.users import SESSION_GAP_MS
from models.verbs import Role

F64 = NDArray[np.float64]

context = Family("context")


@context.user("as_of")
def hour(scene: Scene, out: F64) -> None:
    """Hour of the day, UTC, 0 to 23."""
    out[...] = scene.as_of_ms // HOUR_MS % 24 * GRID


@context.user("row.session_depth", "row.newest_ms")
def session_depth(scene: Scene, out: F64) -> None:
    """log2(1 + weak and strong actions of the session); 0 after 30 minutes without a sign of life."""
    rows = scene.users.rows
    open_ = scene.as_of_ms - rows["newest_ms"] <= SESSION_GAP_MS
    depth = np.where(open_, rows["session_depth"].astype(np.float64), 0.0)
    out[...] = log2_whole(depth + 1.0)


@context.user("row.d1", "total sums")
def user_weak_rate(scene: Scene, out: F64) -> None:
    """log2 of the user's rate of weak actions in 7 days over that of all items."""
    _user(scene, out, Role.WEAK)


@context.user("row.d1", "total sums")
def user_strong_rate(scene: Scene, out: F64) -> None:
    """log2 of the user's rate of strong actions in 7 days over that of all items."""
    _user(scene, out, Role.STRONG)


@context.user("row.d1", "total sums")
def user_negative_rate(scene: Scene, out: F64) -> None:
    """log2 of the user's rate of negative actions in 7 days over that of all items."""
    _user(scene, out, Role.NEGATIVE)


def _user(scene: Scene, out: F64, role: Role) -> None:
    counts, prior = scene.user_week, scene.totals.rate[role]
    engaged = counts[Role.WEAK] + counts[Role.STRONG] + counts[Role.NEGATIVE]
    rate = smoothed(counts[role], np.maximum(counts[Role.EXPOSURE], engaged), prior, USER_WEIGHT)
    out[...] = log2_whole(np.maximum(rate, 1.0)) - log2_whole(np.array([prior]))
