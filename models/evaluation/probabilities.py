"""Predicted probabilities against what happened: AUC, log loss, calibration."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Labels = NDArray[np.bool_]

SMALLEST = 1e-12
BINS = 15


class Bin(NamedTuple):
    """Rows of one bin: mean prediction, share of positives, how many."""

    predicted: float
    happened: float
    rows: int


def auc(score: F64, label: Labels) -> float:
    """P(a positive scores above a negative), ties half; nan with one class.

    >>> auc(np.array([0.1, 0.4, 0.4]), np.array([False, False, True]))
    0.75
    """
    positives = int(label.sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    rank = (ends - (counts - 1) / 2.0)[place]
    return float((rank[label].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def log_loss(probability: F64, label: Labels) -> float:
    """Mean -log P(what happened), in nats; probabilities are kept off 0 and 1 by 1e-12."""
    if not len(label):
        return float("nan")
    p = np.clip(probability, SMALLEST, 1 - SMALLEST)
    return float(-np.mean(np.where(label, np.log(p), np.log1p(-p))))


def calibration(probability: F64, label: Labels, bins: int = BINS) -> list[Bin]:
    """At most `bins` bins of equally many rows, by prediction; equal predictions stay together."""
    if not len(label):
        return []
    order = np.argsort(probability, kind="stable")
    p, y = probability[order], label[order].astype(np.float64)
    edges = np.unique(np.searchsorted(p, p[(np.arange(1, bins) * len(p)) // bins], "left"))
    starts = np.unique(np.concatenate([[0], edges]))
    sizes = np.diff(np.append(starts, len(p)))
    predicted, happened = np.add.reduceat(p, starts) / sizes, np.add.reduceat(y, starts) / sizes
    return [Bin(*one) for one in zip(predicted.tolist(), happened.tolist(), sizes.tolist(), strict=True)]


def calibration_error(probability: F64, label: Labels, bins: int = BINS) -> float:
    """Mean |prediction - what happened| over bins of equal size, weighted by rows (ECE; Naeini et al., AAAI
    2015, with equal-mass bins)."""
    found = calibration(probability, label, bins)
    rows = sum(one.rows for one in found)
    return sum(abs(one.predicted - one.happened) * one.rows for one in found) / rows if rows else float("nan")
