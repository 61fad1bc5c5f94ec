"""Where an item was shown is no merit of the item: what positions add to the odds, learned to be left out.

The log odds of an action are taken as the sum of what the features say and an offset of the position
(Zhao et al., RecSys 2019, "shallow tower"; the examination hypothesis in log odds: Craswell et al., WSDM
2008). Both are fitted together, so that a feature that only says where the old ranking put an item gets
nothing for it. Scoring leaves the offsets out: as if everything stood at an average position.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.learned.logistic import Labels, Logistic, fit

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

BIN_STARTS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 50)
UNKNOWN = len(BIN_STARTS)
BINS = UNKNOWN + 1
ROWS_MIN = 50
"""Rows that a bin needs for an offset of its own; fewer say little."""


def bins(position: I64) -> I64:
    """int64[n] in 0..14 of 0-based positions int64[n]: single ones, then wider; -1, unknown, is the last."""
    found = np.searchsorted(BIN_STARTS, position, "right") - 1
    return np.where(position < 0, UNKNOWN, found).astype(np.int64)


def known(position: I64) -> bool:
    """Whether two bins at least have enough rows: else there is nothing to correct for."""
    rows = np.bincount(bins(position), minlength=BINS)[:UNKNOWN]
    return int((rows >= ROWS_MIN).sum()) >= 2


def marks(position: I64) -> F64:
    """float64[15, n]: 1 in the row of a position's bin."""
    found: F64 = (np.arange(BINS)[:, None] == bins(position)).astype(np.float64)
    return found


def with_positions(features: F64, position: I64) -> F64:
    """float64[F + 15, n]: what is fitted together."""
    return np.vstack([features, marks(position)])


def parted(model: Logistic, position: I64) -> tuple[Logistic, F64]:
    """A model of features alone, at the average of the positions that it learned from, and the offsets
    float64[15] around that average."""
    features = len(model.weights) - BINS
    share = np.bincount(bins(position), minlength=BINS) / len(position)
    offsets = np.where(share * len(position) >= ROWS_MIN, model.weights[features:], 0.0)
    mean = float(offsets @ share)
    bias = model.bias + mean
    kept = Logistic(model.weights[:features], bias, model.mean[:features], model.deviation[:features])
    return kept, offsets - mean


def offsets_of(features: F64, label: Labels, position: I64, l2: float) -> F64:
    """float64[15]: log odds that positions add, beside all that the features say. Raises as `fit` does."""
    return parted(fit(with_positions(features, position), label, l2), position)[1]
