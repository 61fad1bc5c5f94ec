"""How good a freshly trained model is on the rows that it never saw: what stands in the manifest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedrank.dataset.table import LABELS, DataSet
from feedrank.training.fit import Fitted, Trained, grades
from feedrank.training.linear import whole_units
from models.evaluation.bootstrap import mean
from models.evaluation.lists import ndcg, ranked
from models.evaluation.probabilities import auc, calibration_error, log_loss
from models.features.whole import RATE
from models.fingerprint import fp64s
from models.learned.calibration import look_up, table_of
from models.tables import GRID
from topologies.model_folder import LINEAR, RELEVANCE

F64 = NDArray[np.float64]
NDCG_K = 10


def probabilities(trained: Trained, rows: DataSet) -> dict[str, F64]:
    """Head -> float64[n], as the job will compute them."""
    linear = trained.spec.kind == LINEAR
    features = whole_units(rows) if linear else rows.features.astype(np.float64)
    return {one.head: _probability(one, features) for one in trained.heads}


def _probability(one: Fitted, features: F64) -> F64:
    margin = np.floor(one.margin(features) * GRID)
    return look_up(table_of(one.calibration), margin) / RATE


def measured(trained: Trained, data: DataSet) -> dict[str, Any]:
    """Metrics on the test rows; empty where there are none. Numbers that do not exist are None."""
    rows = data.of("test")
    if not len(rows):
        return {}
    found: dict[str, Any] = {"rows": len(rows), "slates": len(np.unique(rows.slate))}
    given = probabilities(trained, rows)
    for head, p in given.items():
        label = grades(rows) > 0 if head == RELEVANCE else rows.labels[LABELS.index(head)] > 0
        base = np.full(len(label), min(max(label.mean(), 1e-9), 1 - 1e-9))
        found[head] = {
            "positives": int(label.sum()),
            "auc": _number(auc(p, label)),
            "log_loss": _number(log_loss(p, label)),
            "log_loss_of_the_mean": _number(log_loss(base, label)),
            "calibration_error": _number(calibration_error(p, label)),
            "predicted_over_happened": _number(p.sum() / label.sum()) if label.any() else None,
        }
    key = RELEVANCE if RELEVANCE in given else "weak"
    lists = ranked(rows.slate, given[key], fp64s(one.encode() for one in rows.item))
    estimate = mean(ndcg(lists, grades(rows).astype(np.float64), NDCG_K))
    found[f"ndcg@{NDCG_K}"] = {"by": key, **{n: _number(v) for n, v in estimate._asdict().items()}}
    return found


def _number(value: float) -> float | None:
    return None if not np.isfinite(value) else float(f"{value:.6g}")
