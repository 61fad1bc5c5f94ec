"""What a model's order would have earned in the slots that were filled by chance, where the log can say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedrank.dataset.table import DataSet
from models.evaluation.offpolicy import Refused, Value, doubly_robust, ips, snips
from models.labels import SPLITS

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

TOP_SHARE = 0.25
"""The target: a drawn slot shows one of the best quarter of the slate's candidates, each as likely."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One estimator's value, or why it is refused."""

    estimator: str
    value: Value | None
    refused: str = ""

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        if self.value is None:
            return {"estimator": self.estimator, "refused": self.refused}
        v = self.value
        return {"estimator": self.estimator, "value": v.value, "low": v.low, "high": v.high,
                "effective_sample": v.effective, "rows": v.rows}  # fmt: skip


def answers(data: DataSet, split: str, scores: F64, expected: F64) -> list[Answer]:
    """IPS, SNIPS and DR of showing the best quarter in the drawn slots of a split.

    `scores` and `expected` (a model's mean value of an item) float64[n] are of all rows of `data`, which must
    hold the candidates that were not shown (`feedrank dataset --candidates`): what else could be drawn.
    Slots whose pool is not all there (1 / propensity) are left out.
    """
    uniform = np.isfinite(data.propensity) & (data.slate_slots == 0)
    drawn = uniform & data.shown & (data.split == SPLITS.index(split))
    if not drawn.any():
        return [Answer(name, None, _NOTHING_DRAWN) for name in ("IPS", "SNIPS", "DR")]
    if data.shown.all():
        return [Answer(name, None, _NO_OTHERS) for name in ("IPS", "SNIPS", "DR")]
    pools = _Pools(data)
    rows = np.array([row for row in np.flatnonzero(drawn).tolist() if pools.whole(row)], np.int64)
    if not len(rows):
        return [Answer(name, None, _NO_WHOLE_POOL) for name in ("IPS", "SNIPS", "DR")]
    target, under_target = _target(pools, rows, scores, expected)
    reward, logged = data.value[rows], data.propensity[rows]
    found: list[Answer] = []
    estimates: dict[str, Callable[[], Value]] = {
        "IPS": lambda: ips(reward, target, logged),
        "SNIPS": lambda: snips(reward, target, logged),
        "DR": lambda: doubly_robust(reward, target, logged, expected[rows], under_target),
    }
    for name, estimate in estimates.items():
        try:
            found.append(Answer(name, estimate()))
        except Refused as refused:
            found.append(Answer(name, None, str(refused)))
    return found


_NOTHING_DRAWN = (
    "no shown row has a propensity; give a surface an explore_share, and join impressions by slate_id"
)
_NO_OTHERS = "the data set holds only what was shown; make it with --candidates to know what could have been"


_NO_WHOLE_POOL = "no drawn slot has all that could have been drawn in the data set; other rules applied"


class _Pools:
    """What could have been drawn, by row: the eligible candidates of its slate."""

    def __init__(self, data: DataSet) -> None:
        self._data = data
        self._order = np.argsort(data.slate, kind="stable")
        self._slates, self._starts = np.unique(data.slate[self._order], return_index=True)
        self._ends = np.append(self._starts[1:], len(self._order))

    def of(self, row: int) -> I64:
        """int64[k]: rows."""
        at = int(np.searchsorted(self._slates, self._data.slate[row]))
        slate = self._order[self._starts[at] : self._ends[at]]
        return slate[self._data.eligible[slate]]

    def whole(self, row: int) -> bool:
        """Whether the pool is as large as the propensity says, and holds what was drawn."""
        pool = self.of(row)
        return len(pool) == round(1 / self._data.propensity[row]) and bool((pool == row).any())


def _target(pools: _Pools, rows: I64, scores: F64, expected: F64) -> tuple[F64, F64]:
    """float64[k] each, of k drawn rows: the target's probability of the item that was drawn, and the model's
    mean value under the target."""
    probability, value = np.empty(len(rows)), np.empty(len(rows))
    for n, row in enumerate(rows.tolist()):
        pool = pools.of(row)
        best = pool[np.argsort(-scores[pool], kind="stable")][: max(1, int(len(pool) * TOP_SHARE))]
        probability[n] = (row == best).any() / len(best)
        value[n] = expected[best].mean()
    return probability, value
