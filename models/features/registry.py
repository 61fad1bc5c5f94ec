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

KINDS = np.array([list(Of).index(feature.of) for feature in FEATURES])
PLACES = np.array([int(np.flatnonzero(ROWS[FEATURES[row].of] == row)[0]) for row in range(len(FEATURES))])
"""int64[F]: which kind each feature is of, by order of Of, and its place among those."""


class Weights:
    """A linear model: `matrix` float64[H, F], weights of FEATURES in H sums.

    `of(kind)` float64[H, k]: weights of a kind's features. `used(kind)`: places int64[k] in FEATURES of those
    that have a weight, and float64[H, k].
    """

    def __init__(self, matrix: NDArray[np.float64]) -> None:
        self.matrix = matrix
        self._of, self._used = {}, {}
        for of, rows in ROWS.items():
            some = rows[matrix[:, rows].any(axis=0)]
            self._of[of] = np.ascontiguousarray(matrix[:, rows])
            self._used[of] = some, np.ascontiguousarray(matrix[:, some])

    def __len__(self) -> int:
        return len(self.matrix)

    def of(self, kind: Of) -> NDArray[np.float64]:
        return self._of[kind]

    def used(self, kind: Of) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        return self._used[kind]
