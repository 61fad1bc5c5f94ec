"""All metrics of some models on the rows of one split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedrank.dataset.table import LABELS, DataSet
from feedrank.training.fit import grades
from models.evaluation.bootstrap import Estimate, mean, paired
from models.evaluation.lists import Lists, ndcg, ranked, recall, reciprocal_rank
from models.evaluation.probabilities import Bin, auc, calibration, calibration_error, log_loss
from models.evaluation.variety import coverage, distinct, novelty
from models.features import FEATURE_NAMES, Planes
from models.features.whole import RATE
from models.fingerprint import fp64s
from models.learned.scorers import Linear, Trees
from models.score import RateLift
from models.tables import GRID
from streams.errors import ExitCode, OperatorError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
AnyScorer = RateLift | Linear | Trees

CHUNK_ROWS = 20_000
LIGHT, HEAVY = 1, 10
"""Slates that a user was shown before: new below LIGHT, heavy from HEAVY on."""
FRESH_MINUTES = 24 * 60
SLATES_MIN = 2
"""Rows that a slate needs: one alone is always in the right order."""


@dataclass(slots=True)
class Measured:
    """What one model reached. `lists`: by metric, float64[q] per slate; `heads`: by head, numbers; `bins`:
    calibration; `scores` float64[n] per row."""

    name: str
    scores: F64
    lists: dict[str, F64] = field(default_factory=dict)
    whole: dict[str, float] = field(default_factory=dict)
    heads: dict[str, dict[str, float]] = field(default_factory=dict)
    bins: dict[str, list[Bin]] = field(default_factory=dict)


@dataclass(slots=True)
class Comparison:
    """Some models on the same slates. `user` int64[q]: whose slate; `segments`: name -> bool[q]."""

    models: list[Measured]
    user: I64
    segments: dict[str, Bools]
    rows: int
    seed: int = 1

    def estimate(self, model: Measured, metric: str, segment: str | None = None) -> Estimate:
        """A model's mean with its interval, over users."""
        return mean(self._masked(model.lists[metric], segment), self.user, seed=self.seed)

    def gain(self, model: Measured, metric: str, segment: str | None = None) -> Estimate:
        """What a model has over the first one, on the same slates."""
        a, b = model.lists[metric], self.models[0].lists[metric]
        return paired(self._masked(a, segment), b, self.user, self.seed)

    def _masked(self, values: F64, segment: str | None) -> F64:
        return values if segment is None else np.where(self.segments[segment], values, np.nan)


def _no_slates(data: DataSet, split: str) -> str:
    least = f"at least {SLATES_MIN} shown rows"
    if not _in_slates(data.slate[data.shown]).any():
        return (
            f"{data.path} has no slate of {least} in any split, so there is no order to judge. Impressions "
            "of one page need one slate_id; rows of Open Bandit are alone, see `feedrank bench openbandit`"
        )
    return (
        f"{data.path} has no slate of {least} in the split {split!r}; make it with larger shares, or name "
        "another split"
    )


def compare(data: DataSet, split: str, scorers: Mapping[str, AnyScorer], k: int) -> Comparison:
    """Measure models on the shown rows of a split; the first is the one that others are compared with.

    Raises OperatorError where nothing can be measured.
    """
    rows = data.of(split)
    rows = rows.where(_in_slates(rows.slate))
    if not len(rows):
        raise OperatorError(_no_slates(data, split), ExitCode.BAD_INPUT)
    if not grades(rows).any():
        raise OperatorError(
            f"{data.path} has no action on what was shown in the split {split!r}; "
            "no order is better than another",
            ExitCode.BAD_INPUT,
        )
    earlier = _share_of_showings(data, rows)
    models = [_measured(name, scorer, rows, k, earlier) for name, scorer in scorers.items()]
    lists = _lists(rows, models[0].scores)
    users = np.unique(rows.user.astype(str), return_inverse=True)[1]
    first = np.zeros(lists.count, np.int64)
    first[lists.query] = lists.order
    return Comparison(models, users[first].astype(np.int64), _segments(data, rows, lists), len(rows))


def _in_slates(slate: I64) -> Bools:
    _, place, sizes = np.unique(slate, return_inverse=True, return_counts=True)
    found: Bools = sizes[place] >= SLATES_MIN
    return found


def _lists(rows: DataSet, score: F64) -> Lists:
    return ranked(rows.slate, score, fp64s(one.encode() for one in rows.item))


def scored(scorer: AnyScorer, features: NDArray[np.int32]) -> tuple[F64, F64]:
    """Scores float64[n] and probabilities float64[H, n] of int32[F, n]."""
    scores, probabilities = [], []
    for start in range(0, features.shape[1], CHUNK_ROWS):
        planes = Planes(features[:, None, start : start + CHUNK_ROWS].astype(np.float64))
        scores.append(scorer.score(planes)[0])
        probabilities.append(scorer.probabilities(planes)[:, 0] / RATE)
    return np.concatenate(scores), np.concatenate(probabilities, axis=1)


def _measured(name: str, scorer: AnyScorer, rows: DataSet, k: int, earlier: F64) -> Measured:
    scores, probabilities = scored(scorer, rows.features)
    found, grade = Measured(name, scores), grades(rows)
    lists = _lists(rows, scores)
    found.lists = {
        f"NDCG@{k}": ndcg(lists, grade.astype(np.float64), k),
        "MRR": _of_those_with(reciprocal_rank(lists, grade > 0), lists, grade > 0),
        f"recall@{k}": recall(lists, grade > 0, k),
        f"authors@{k}": distinct(lists, _codes(rows.author), k),
        f"topics@{k}": distinct(lists, _codes(rows.topic), k),
        f"novelty@{k}": novelty(lists, earlier, k),
    }
    found.whole[f"coverage@{k}"] = coverage(lists, _codes(rows.item), k)
    fresh = rows.features[FEATURE_NAMES.index("age_days")] < FRESH_MINUTES / 1_440 * GRID
    found.whole["AUC of fresh items"] = auc(scores[fresh], grade[fresh] > 0)
    heads = LABELS if len(probabilities) == len(LABELS) else ("relevance",)
    for head, p in zip(heads, probabilities, strict=True):
        label = grade > 0 if head == "relevance" else rows.labels[LABELS.index(head)] > 0
        base = np.full(len(label), label.mean())
        found.heads[head] = {
            "positives": float(label.sum()),
            "AUC": auc(p, label),
            "log loss": log_loss(p, label),
            "log loss of the mean": log_loss(base, label),
            "calibration error": calibration_error(p, label),
        }
        found.bins[head] = calibration(p, label)
    return found


def _of_those_with(values: F64, lists: Lists, relevant: Bools) -> F64:
    """Slates without an action say nothing of an order."""
    some = lists.per_query(relevant[lists.order].astype(np.float64)) > 0
    return np.where(some, values, np.nan)


def _codes(values: NDArray[Any]) -> I64:
    return np.unique(values.astype(str), return_inverse=True)[1].astype(np.int64)


def _share_of_showings(data: DataSet, rows: DataSet) -> F64:
    """float64[n]: how often a row's item was shown before these rows, of all showings; one more for each."""
    before = data.item[data.shown & (data.time_ms < rows.time_ms.min())].astype(str)
    names, counts = np.unique(before, return_counts=True)
    known = dict(zip(names.tolist(), counts.tolist(), strict=True))
    total = len(before) + len(np.unique(rows.item.astype(str)))
    return np.array([(known.get(one, 0) + 1) / total for one in rows.item.tolist()])


def _segments(data: DataSet, rows: DataSet, lists: Lists) -> dict[str, Bools]:
    """New, light and heavy users, by how many slates the data set has of them before."""
    order = np.argsort(data.time_ms, kind="stable")
    seen: dict[str, set[int]] = {}
    before: dict[int, int] = {}
    for user, slate in zip(data.user[order].tolist(), data.slate[order].tolist(), strict=True):
        slates = seen.setdefault(user, set())
        if slate not in slates:
            before[slate] = len(slates)
            slates.add(slate)
    count = np.array([before[slate] for slate in lists.names.tolist()])
    return {
        "new users": count < LIGHT,
        "light users": (count >= LIGHT) & (count < HEAVY),
        "heavy users": count >= HEAVY,
    }
