"""Scorers of trained models (9): one probability per head, weighed by what the policy says each is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.features import Features, Weights
from models.learned.calibration import look_up
from models.learned.logistic import Logistic
from models.score import SCORE_MAX
from models.tables import GRID

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

WEIGHT_BITS = 20
WEIGHT_MAX = 16
"""|weight| <= 16 per whole unit of a feature (4096 on its grid): sums of 64 features stay below 2^53."""

BIAS_MAX = 1 << 16
LN2 = 0.6931471805599453
Predict = Callable[[F64], F64]
"""Margins float64[n] of features float64[n, F] on the grid."""


def fixed_point(model: Logistic) -> tuple[I64, int]:
    """Weights int64[F] in units of 2^-20 and bias in units of 2^-32, of a model over features in whole units.

    Raises ValueError where a weight is beyond 16: its feature hardly varies in the data.
    """
    if len(model.weights) > 64:
        raise ValueError(f"{len(model.weights)} features are more than 64: sums would not stay exact")
    over = np.flatnonzero(np.abs(model.weights) > WEIGHT_MAX)
    if over.size or abs(model.bias) > BIAS_MAX:
        raise ValueError(f"weights of features {over.tolist()} are beyond {WEIGHT_MAX}; train with more l2")
    return np.rint(model.weights * (1 << WEIGHT_BITS)).astype(np.int64), round(model.bias * 2**32)


class Linear:
    """Logistic heads in fixed point. Exact: equal bytes whatever is scored together.

    `weights` int64[H, F] (units of 2^-20), `bias` int64[H] (2^-32), `tables` int32[H, ENTRIES]; `values`:
    what each head is worth, grid integers.
    """

    exact = True

    def __init__(
        self, name: str, weights: I64, bias: I64, tables: NDArray[np.int32], values: Sequence[float]
    ) -> None:
        self.name, self.values = name, list(values)
        self._weights, self._bias, self._tables = Weights(weights.astype(np.float64)), bias, tables

    def probabilities(self, features: Features) -> F64:
        """float64[H, U, C] in units of 2^-24."""
        sums = features.weighted(self._weights) + self._bias[:, None, None]
        margin = np.floor(sums / (1 << WEIGHT_BITS))
        return np.stack([look_up(table, one) for table, one in zip(self._tables, margin, strict=True)])

    def score(self, features: Features) -> F64:
        """See models.score.Scorer."""
        return worth(self.probabilities(features), self.values)

    def contributions(self, features: F64) -> F64:
        """float64[H, F, n] of float64[F, n]: how much each feature adds to each head's log odds, in doublings
        of the odds: weight * value, exact but for the change of unit."""
        weights = self._weights.matrix * (1.0 / (1 << WEIGHT_BITS) / GRID / LN2)
        found: F64 = weights[:, :, None] * features
        return found

    @property
    def lift(self) -> F64:
        """float64[F]: doublings of the odds that a unit of each feature is worth, summed over the heads with
        a value above 0; grid integers."""
        wanted = self._weights.matrix[np.array(self.values) > 0].sum(axis=0)
        lift: F64 = np.rint(wanted * (GRID / (1 << WEIGHT_BITS) / LN2))
        return lift


class Trees:
    """Boosted trees through a predictor of another library; margins are floored to the grid. `shap`: makes
    float64[n, F + 1] of the same rows, by head: what each feature adds to the margin, and the usual margin.

    `exact` is False: sums of floats may differ between versions and processors in the last bit.
    """

    exact = False

    def __init__(
        self,
        name: str,
        predict: Sequence[Predict],
        tables: NDArray[np.int32],
        values: Sequence[float],
        shap: Sequence[Predict] = (),
    ) -> None:
        self.name, self.values = name, list(values)
        self._predict, self._tables, self._shap = list(predict), tables, list(shap)

    def probabilities(self, features: Features) -> F64:
        """float64[H, U, C] in units of 2^-24."""
        planes = features.planes()
        found = self.of_rows(planes.reshape(len(planes), -1))
        return found.reshape(-1, *planes.shape[1:])

    def of_rows(self, features: F64) -> F64:
        """float64[H, n] in units of 2^-24 of float64[F, n] grid integers."""
        rows = np.ascontiguousarray(features.T)
        margins = [np.floor(predict(rows) * GRID) for predict in self._predict]
        return np.stack([look_up(table, one) for table, one in zip(self._tables, margins, strict=True)])

    def score(self, features: Features) -> F64:
        """See models.score.Scorer."""
        return worth(self.probabilities(features), self.values)

    def contributions(self, features: F64) -> F64:
        """float64[H, F, n] of float64[F, n]: SHAP values, in doublings of the odds (of the margin, where a
        model only ranks). Raises ValueError where the model came without."""
        if not self._shap:
            raise ValueError(f"the model {self.name} was read without its SHAP values; read its folder")
        rows = np.ascontiguousarray(features.T)
        return np.stack([shap(rows)[:, :-1].T / LN2 for shap in self._shap])

    @property
    def explains(self) -> bool:
        """Whether it came with SHAP values."""
        return bool(self._shap)

    def lifts(self, features: F64) -> F64:
        """float64[F, n]: contributions summed over the heads with a value above 0."""
        wanted = [shap for shap, value in zip(self._shap, self.values, strict=True) if value > 0]
        rows = np.ascontiguousarray(features.T)
        found: F64 = sum((shap(rows)[:, :-1].T for shap in wanted), np.zeros(features.shape)) / LN2
        return found


def worth(probabilities: F64, values: Sequence[float]) -> F64:
    """float64[...], scores of float64[H, ...]: floor(sum of value * p / 4096) within +-SCORE_MAX."""
    score = np.zeros(probabilities.shape[1:])
    for probability, value in zip(probabilities, values, strict=True):
        score += probability * value
    score /= GRID
    np.floor(score, out=score)
    return np.clip(score, -SCORE_MAX, SCORE_MAX, out=score)
