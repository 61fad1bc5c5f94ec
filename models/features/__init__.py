"""Features (8): float64[F, U, C], integers in units of 1/4096. docs/ranking.md has every formula."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.activity import activity
from models.features.affinity import affinity
from models.features.context import context
from models.features.definition import FEATURE_MAX, Feature
from models.features.fatigue import fatigue
from models.features.rates import rates
from models.features.relative import relative
from models.features.scene import Scene
from models.features.similarity import similarity
from models.features.social import social

__all__ = ["FEATURES", "FEATURE_MAX", "FEATURE_NAMES", "Feature", "Scene", "compute"]

FAMILIES = (affinity, similarity, rates, activity, fatigue, social, context, relative)
FEATURES: tuple[Feature, ...] = tuple(feature for family in FAMILIES for feature in family.features)
FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)


def compute(scene: Scene, out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """float64[F, U, C] in the order of FEATURES; places of padding hold anything.

    `out`: memory to use, at least F * U * C float64 (a view of it is returned).
    """
    size = len(FEATURES) * scene.shape[0] * scene.shape[1]
    planes = np.empty(size) if out is None or out.size < size else out[:size]
    planes = planes.reshape(len(FEATURES), *scene.shape)
    for feature, plane in zip(FEATURES, planes, strict=True):
        feature.compute(scene, plane)
    return planes
