"""Features (8): integers in units of 1/4096. docs/ranking.md has every formula."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.definition import FEATURE_MAX, Feature, Of
from models.features.item_memo import ItemMemo
from models.features.registry import FEATURE_NAMES, FEATURES, Weights
from models.features.scene import Scene
from models.features.table import Features, Planes, SceneFeatures

__all__ = [
    "FEATURES",
    "FEATURE_MAX",
    "FEATURE_NAMES",
    "Feature",
    "Features",
    "ItemMemo",
    "Of",
    "Planes",
    "Scene",
    "SceneFeatures",
    "Weights",
    "compute",
]


def compute(scene: Scene, out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """float64[F, U, C] in the order of FEATURES; places of padding hold anything.

    `out`: memory to use, at least F * U * C float64 (a view of it is returned).
    """
    return SceneFeatures(scene).planes(out)
