"""Calibration: from margins to probabilities that come true, as a table with integers (exact to look up)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.features.whole import RATE
from models.learned.logistic import fit, sigmoid
from models.tables import GRID

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Labels = NDArray[np.bool_]

MARGIN_MAX = 16
"""Log odds beyond +-16 (one in nine million) count as 16."""

STEP = 256
"""Grid units between two entries of a table: 1/16 of a logit."""

ENTRIES = 2 * MARGIN_MAX * GRID // STEP + 1
PLATT_L2 = 1e-6


class Platt(NamedTuple):
    """P = sigmoid(slope * margin + offset). Platt, 1999."""

    slope: float
    offset: float

    def probability(self, margin: F64) -> F64:
        """float64[n] of float64[n]."""
        return sigmoid(self.slope * margin + self.offset)


class Isotonic(NamedTuple):
    """A rising function through points float64[k], straight between them and level outside."""

    margin: F64
    value: F64

    def probability(self, margin: F64) -> F64:
        """float64[n] of float64[n]."""
        return np.interp(margin, self.margin, self.value)


Calibration = Platt | Isotonic


def fit_platt(margin: F64, label: Labels) -> Platt:
    """Raises ValueError for one class, or margins that are not finite."""
    found = fit(margin[None, :], label, PLATT_L2)
    return Platt(float(found.weights[0]), found.bias)


def fit_isotonic(margin: F64, label: Labels) -> Isotonic:
    """Pool adjacent violators (Ayer et al., 1955); each block stands at its mean margin.

    Block rates are shrunk by half a row of the overall rate: no block says never or always.
    """
    if not len(label) or not np.isfinite(margin).all():
        raise ValueError("isotonic calibration needs finite margins of at least one row")
    order = np.argsort(margin, kind="stable")
    rate = float(label.mean())
    blocks: list[list[float]] = []  # sum of labels, sum of margins, rows
    for m, y in zip(margin[order].tolist(), label[order].tolist(), strict=True):
        blocks.append([float(y), m, 1.0])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][2] >= blocks[-1][0] * blocks[-2][2]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    sums = np.array(blocks)
    value = (sums[:, 0] + 0.5 * rate) / (sums[:, 2] + 0.5)
    return Isotonic(sums[:, 1] / sums[:, 2], np.maximum.accumulate(value))


def table_of(calibration: Calibration) -> NDArray[np.int32]:
    """int32[ENTRIES] in units of 2^-24: probabilities at margins -16, -16 + 1/16, ..., 16; never falling."""
    margin = (np.arange(ENTRIES) * STEP) / GRID - MARGIN_MAX
    units = np.floor(calibration.probability(margin) * RATE + 0.5)
    return np.maximum.accumulate(np.clip(units, 0, RATE)).astype(np.int32)


def look_up(table: NDArray[np.int32], margin: F64) -> F64:
    """Probabilities in units of 2^-24 of margins in whole grid units (float64, any shape): straight between
    entries, floored. Exact: all are integers below 2^53."""
    place = np.clip(margin, -MARGIN_MAX * GRID, MARGIN_MAX * GRID - 1).astype(np.int64) + MARGIN_MAX * GRID
    entry, part = place // STEP, place % STEP
    low, high = table[entry].astype(np.int64), table[entry + 1].astype(np.int64)
    return ((low * (STEP - part) + high * part) // STEP).astype(np.float64)
