"""All features in their order (8), and by what they are of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.activity import activity
from models.features.affinity import affinity
from models.features.context import context
from models.features.definition import Feature, Of
from models.features.fatigue import fatigue
from models.features.rates import rates
from models.features.relative import relative
from models.features.similarity import similarity
from models.features.social import social

FAMILIES = (affinity, similarity, rates, activity, fatigue, social, context, relative)
FEATURES: tuple[Feature, ...] = tuple(feature for family in FAMILIES for feature in family.features)
FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
ROWS: dict[Of, NDArray[np.int64]] = {
    of: np.array([row for row, feature in enumerate(FEATURES) if feature.of is of], np.int64) for of in Of
}
"""int64[k]: places in FEATURES of those that are of a kind."""


class Weights:
    """A linear model: `matrix` float64[H, F], weights of FEATURES in H sums.

    `by(of)`: the features of a kind that have a weight: their places int64[k], and float64[H, k].
    """

    def __init__(self, matrix: NDArray[np.float64]) -> None:
        self.matrix = matrix
        self._by = {}
        for of, rows in ROWS.items():
            used = rows[matrix[:, rows].any(axis=0)]
            self._by[of] = used, np.ascontiguousarray(matrix[:, used])

    def __len__(self) -> int:
        return len(self.matrix)

    def by(self, of: Of) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        return self._by[of]
