"""What the benchmarks of ranking quality share: queries with the job's own features, contenders, figures.

Training happens on `train` rows, tuning and calibration on `valid`, and `test` is looked at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import Figure
from feedrank.dataset.table import DataSet
from feedrank.training.fit import Spec, Trained, train
from feedrank.training.report import probabilities
from models.evaluation.bootstrap import Estimate, mean, paired
from models.features import FEATURE_NAMES
from models.labels import SPLITS
from tests.services import ROOT

__all__ = ["FEATURE_NAMES", "Queries", "against", "data_folder", "learned", "queries"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Scores = Mapping[str, F64]


def data_folder() -> Path:
    """The folder with real data. Raises ValueError where it is not there."""
    folder = Path(os.environ.get("FEEDRANK_DATA", ROOT / ".." / "shared" / "data")).resolve()
    if not folder.is_dir():
        raise ValueError(f"{folder} is not there; set FEEDRANK_DATA to the folder with the data sets")
    return folder


@dataclass(frozen=True, slots=True)
class Queries:
    """n rows of queries. `features` int32[F, n], `query`, `time_ms` int64[n], `relevant` bool[n], `fp`
    uint64[n] of the items, `cluster` int64[n] (who asked), `split` int8[n]."""

    features: NDArray[np.int32]
    query: I64
    time_ms: I64
    relevant: NDArray[np.bool_]
    fp: NDArray[np.uint64]
    cluster: I64
    split: NDArray[np.int8]

    def rows(self, split: str) -> NDArray[np.bool_]:
        """bool[n]: the rows of a split."""
        found: NDArray[np.bool_] = self.split == SPLITS.index(split)
        return found

    def data(self, name: str, chosen: NDArray[np.bool_] | None = None) -> DataSet:
        """As `feedrank train` takes it: relevance is the weak head."""
        at = np.arange(len(self.query)) if chosen is None else np.flatnonzero(chosen)
        labels = np.zeros((3, len(at)), np.int8)
        labels[0] = self.relevant[at]
        nobody = np.full(len(at), "", object)
        return DataSet(
            Path(name),
            self.features[:, at],
            labels,
            self.query[at],
            self.time_ms[at],
            np.full(len(at), -1),
            self.relevant[at] * 1.0,
            np.full(len(at), np.nan),
            np.ones(len(at), np.bool_),
            np.ones(len(at), np.bool_),
            self.split[at],
            nobody,
            nobody,
            nobody,
            nobody,
            *(np.full(len(at), -1), np.zeros(len(at), np.int64), np.zeros(len(at), np.int64)),
            {"source": name},
        )


def queries(
    parts: Iterable[tuple[NDArray[np.int32], int, int, NDArray[Any], NDArray[Any], int, str]],
) -> Queries:
    """From (features, query, time_ms, relevant, fp, cluster, split) per query."""
    columns: list[list[Any]] = [[] for _ in range(7)]
    for features, query, time_ms, relevant, fp, cluster, split in parts:
        n = len(fp)
        whole = (query, time_ms, cluster, SPLITS.index(split))
        for column, value in zip(columns[:3], (features, relevant, fp), strict=True):
            column.append(value)
        for column, number in zip(columns[3:], whole, strict=True):
            column.append(np.full(n, number, np.int64))
    f, relevant, fp, q, t, c, s = columns
    return Queries(
        np.concatenate(f, axis=1),
        np.concatenate(q),
        np.concatenate(t),
        np.concatenate(relevant),
        np.concatenate(fp),
        np.concatenate(c),
        np.concatenate(s).astype(np.int8),
    )


def learned(
    data: Queries, name: str, kinds: Sequence[str], say: Callable[[str], None], **more: Any
) -> Scores:
    """Kind -> scores float64[n] of all rows, by models trained on `train` and tuned on `valid`."""
    found = {}
    rows = data.data(name)
    for kind in kinds:
        trained: Trained = train(rows, Spec(kind, name, **more), lambda told: None)
        say(f"{kind}: {trained.heads[0].told}")
        found[kind] = next(iter(probabilities(trained, rows).values()))
    return found


def against(subject: str, values: Mapping[str, F64], base: str, cluster: I64, note: str = "") -> list[Figure]:
    """For each contender its mean with interval, and its paired gain over `base` (goal: clear of zero)."""
    figures = []
    for name, value in values.items():
        figures.append(_figure(subject, name, mean(value, cluster), note))
        if name != base:
            gain = paired(value, values[base], cluster)
            figures.append(_gain(subject, name, base, gain))
    return figures


def _figure(subject: str, name: str, found: Estimate, note: str) -> Figure:
    interval = f"95 % {found.low:.4f} to {found.high:.4f}, {found.clusters} clusters"
    return Figure(subject, name, found.value, "mean", note=f"{interval}{'; ' + note if note else ''}")


def _gain(subject: str, name: str, base: str, gain: Estimate) -> Figure:
    interval = f"95 % {gain.low:+.4f} to {gain.high:+.4f}"
    clear = "clear of zero" if gain.low > 0 else "clear below zero" if gain.high < 0 else "not clear of zero"
    return Figure(subject, f"{name} over {base}", gain.value, "paired", note=f"{interval}, {clear}")
