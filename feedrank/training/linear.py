"""Linear models: how much l2, and none whose weights would not stay exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from feedrank.dataset.table import DataSet
from models.evaluation.probabilities import log_loss
from models.learned import position
from models.learned.logistic import Logistic, fit, sigmoid
from models.learned.scorers import WEIGHT_MAX
from models.tables import GRID
from streams.errors import ExitCode, OperatorError

F64 = NDArray[np.float64]
Labels = NDArray[np.bool_]

L2_TRIED = (1e-4, 1e-3, 1e-2, 1e-1)
L2_UNTUNED = (1e-2,)
L2_HEAVIER = (1.0, 10.0, 100.0)
"""Of these the first with exact weights, where none of the others has them: some feature hardly varies."""


def whole_units(rows: DataSet) -> F64:
    """float64[F, n]: features in whole units."""
    return rows.features / float(GRID)


def best_linear(
    x: F64,
    label: Labels,
    tune: DataSet,
    tune_label: Labels,
    tunable: bool,
    shown: NDArray[np.int64] | None = None,
) -> tuple[Logistic, float, F64 | None]:
    """The l2 with the smallest log loss on the rows to tune on, among those whose weights stay exact.

    `shown` int64[n]: positions of the rows, to leave out what they add. Returns model, l2, offsets by bin.
    """
    tuned = whole_units(tune)
    if shown is not None:
        x, tuned = position.with_positions(x, shown), position.with_positions(tuned, tune.position)
    exact = list(_exact(x, label, L2_TRIED if tunable else L2_UNTUNED))
    exact = exact or list(islice(_exact(x, label, L2_HEAVIER), 1))
    if not exact:
        raise OperatorError(
            f"even with an l2 of {L2_HEAVIER[-1]:.0f} a weight is beyond {WEIGHT_MAX}: some feature hardly "
            "varies; train on more data",
            ExitCode.BAD_INPUT,
        )
    losses = [log_loss(sigmoid(model.margin(tuned)), tune_label) if tunable else 0.0 for _, model in exact]
    l2, best = exact[losses.index(min(losses))]
    if shown is None:
        return best, l2, None
    model, offsets = position.parted(best, shown)
    return model, l2, offsets


def _exact(x: F64, label: Labels, tried: Sequence[float]) -> Iterator[tuple[float, Logistic]]:
    """Models whose weights stay exact in fixed point, by l2."""
    for l2 in tried:
        model = fit(x, label, l2)
        if np.abs(model.weights).max() <= WEIGHT_MAX:
            yield l2, model
