"""What each feature is worth on a data set: how often it has nothing to say, and what its absence costs.

Two absences: a linear model is trained again without the feature (of a family: without all of its features),
and the default model is left without its weight. Both are measured on the test rows of the same slates, as
paired differences, whole users drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedrank.dataset.table import DataSet
from feedrank.training.fit import ENOUGH, grades
from feedrank.training.linear import best_linear, whole_units
from models.evaluation.bootstrap import paired
from models.evaluation.lists import ndcg, ranked
from models.features import FEATURES, Planes
from models.fingerprint import fp64s
from models.learned.logistic import fit
from models.policy import Policy
from models.score import RateLift
from streams.errors import ExitCode, OperatorError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
NDCG_K = 10
DIGITS = 5


@dataclass(frozen=True, slots=True)
class Delta:
    """NDCG@10 with, less without: mean and 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Effect:
    """Of a feature (or family) on one data set. `missing`: share of the rows that hold its default, nothing
    to say; None for a family. `linear`, `default_model`: None where that model does not use it."""

    missing: float | None
    linear: Delta | None
    default_model: Delta | None


def measured(data: DataSet, policy: Policy, say: Callable[[str], None]) -> dict[str, Any]:
    """What the page holds of a data set. Raises OperatorError where it has too few actions to train or test
    on."""
    of = _Ablation(data, policy)
    features, families = {}, {}
    for row, feature in enumerate(FEATURES):
        say(f"without {feature.name}")
        missing = round(float((data.features[row] == feature.default).mean()), DIGITS)
        found = of.without(np.array([row]), missing)
        features[feature.name] = {"version": feature.version} | asdict(found)
    for family in dict.fromkeys(feature.family for feature in FEATURES):
        say(f"without the family {family}")
        rows = np.array([row for row, feature in enumerate(FEATURES) if feature.family == family])
        families[family] = asdict(of.without(rows, None))
    told = {"train_rows": of.train_rows, "test_rows": len(of.test), "test_slates": of.slates}
    return told | {"ndcg": of.reached, "features": features, "families": families}


class _Ablation:
    def __init__(self, data: DataSet, policy: Policy) -> None:
        train, tune, self.test = (data.of(split) for split in ("train", "valid", "test"))
        self._label = grades(train) > 0
        positives = int(self._label.sum())
        if min(positives, len(self._label) - positives) < ENOUGH or not (grades(self.test) > 0).any():
            raise OperatorError(
                f"{data.path} has {positives} actions among {len(self._label)} rows to train on, and "
                f"{int((grades(self.test) > 0).sum())} among {len(self.test)} to test on; collect more",
                ExitCode.BAD_INPUT,
            )
        self.train_rows = len(train)
        self._x, self._x_test = whole_units(train), whole_units(self.test)
        tune_label = grades(tune) > 0
        tunable = min(int(tune_label.sum()), int((~tune_label).sum())) >= ENOUGH
        full, self._l2, _ = best_linear(self._x, self._label, tune, tune_label, tunable)
        self._users = np.unique(self.test.user.astype(str), return_inverse=True)[1].astype(np.int64)
        self._model = RateLift(policy)
        self._linear = self._ndcg(full.margin(self._x_test))
        self._default = self._ndcg(self._scores(self.test.features))
        self.slates = int((~np.isnan(self._linear)).sum())
        self.reached = {
            "linear": _digits(float(np.nanmean(self._linear))),
            "default_model": _digits(float(np.nanmean(self._default))),
        }

    def without(self, rows: I64, missing: float | None) -> Effect:
        """Without some features."""
        varies = np.ptp(self._x[rows], axis=1) > 0
        linear = None
        if varies.any():
            x, x_test = self._x.copy(), self._x_test.copy()
            x[rows], x_test[rows] = 0.0, 0.0
            linear = self._delta(self._linear, fit(x, self._label, self._l2).margin(x_test))
        features = self.test.features.copy()
        features[rows] = 0
        scores = self._scores(features)
        weighed = bool((scores != self._scores(self.test.features)).any())
        return Effect(missing, linear, self._delta(self._default, scores) if weighed else None)

    def _scores(self, features: NDArray[np.int32]) -> F64:
        scores: F64 = self._model.score(Planes(features[:, None].astype(np.float64)))[0]
        return scores

    def _ndcg(self, score: F64) -> F64:
        lists = ranked(self.test.slate, score, fp64s(one.encode() for one in self.test.item))
        first = np.zeros(lists.count, np.int64)
        first[lists.query] = lists.order
        self._cluster = self._users[first]
        return ndcg(lists, grades(self.test).astype(np.float64), NDCG_K)

    def _delta(self, with_it: F64, score: F64) -> Delta:
        without = self._ndcg(score)
        found = paired(with_it, without, self._cluster)
        return Delta(*(_digits(one) for one in (found.value, found.low, found.high)))


def _digits(value: float) -> float:
    return round(value, DIGITS)
