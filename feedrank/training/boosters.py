"""LightGBM: the only place that trains with it. One thread, one seed, deterministic mode."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import OperatorError
from topologies.model_folder import feature_versions

if TYPE_CHECKING:
    from feedrank.training.fit import Spec

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

PATIENCE = 50
"""Rounds without gain on the rows to tune on before training stops."""
GAINS = (0, 1, 3)
"""Gain of grades 0, 1 and 2 in lambdarank: 2^grade - 1."""


@dataclass(frozen=True, slots=True)
class Boosted:
    """A trained booster: its text, how many trees, and margins float64[n] of features float64[F, n]."""

    text: str
    trees: int
    margin: Callable[[F64], F64]


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise OperatorError("trees need lightgbm; in the checkout: pip install -e '.[train]'") from error
    return lightgbm


@dataclass(frozen=True, slots=True)
class Held:
    """Rows for a classifier: features float64[F, n], labels bool[n]; `given` float64[n]: log odds that the
    trees need not explain (and do not predict)."""

    features: F64
    label: NDArray[np.bool_]
    given: F64 | None = None


def boost(rows: Held, held: Held | None, spec: Spec) -> Boosted:
    """A binary classifier. `held`: rows on which training stops early."""
    lightgbm = _lightgbm()
    rate = float(np.clip(rows.label.mean(), 1e-6, 1 - 1e-6))
    prior = np.log(rate / (1 - rate))  # with offsets LightGBM does not begin at the mean by itself
    given = None if rows.given is None else rows.given + prior
    held_given = None if held is None or held.given is None else held.given + prior
    data = lightgbm.Dataset(
        rows.features.T,
        rows.label.astype(np.int8),
        init_score=given,
        feature_name=_names(rows.features),
        free_raw_data=False,
    )
    valid = None
    if held is not None:
        valid = data.create_valid(held.features.T, held.label.astype(np.int8), init_score=held_given)
    return _train(
        lightgbm, _params(spec) | {"objective": "binary", "metric": "binary_logloss"}, data, valid, spec
    )


@dataclass(frozen=True, slots=True)
class Slates:
    """Rows for a ranker, in any order: features float64[F, n], grades and slates int64[n]; `given`
    float64[n]: what is added to the margin while it learns, and is not predicted."""

    features: F64
    grade: I64
    slate: I64
    given: F64 | None = None


def rank(rows: Slates, held: Slates | None, spec: Spec) -> Boosted:
    """LambdaRank over slates (Burges, 2010). `held`: slates on which training stops early."""
    lightgbm = _lightgbm()

    def grouped(one: Slates) -> dict[str, Any]:
        order = np.argsort(one.slate, kind="stable")
        given = None if one.given is None else one.given[order]
        sizes = np.unique(one.slate, return_counts=True)[1]
        return {"data": one.features.T[order], "label": one.grade[order], "group": sizes, "init_score": given}

    data = lightgbm.Dataset(**grouped(rows), feature_name=_names(rows.features), free_raw_data=False)
    valid = None if held is None else data.create_valid(**grouped(held))
    params = {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [10],
        "label_gain": list(GAINS),
        "lambdarank_truncation_level": 20,
    }
    return _train(lightgbm, _params(spec) | params, data, valid, spec)


def _names(features: F64) -> list[str] | str:
    names = list(feature_versions())
    return names if len(names) == len(features) else "auto"


def _params(spec: Spec) -> dict[str, Any]:
    return {
        "num_leaves": spec.leaves,
        "learning_rate": spec.rate,
        "min_data_in_leaf": 50,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "seed": spec.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }


def _train(lightgbm: Any, params: dict[str, Any], data: Any, valid: Any, spec: Spec) -> Boosted:
    callbacks = [] if valid is None else [lightgbm.early_stopping(PATIENCE, verbose=False)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        booster = lightgbm.train(
            params, data, spec.trees, valid_sets=None if valid is None else [valid], callbacks=callbacks
        )
    trees = (
        booster.best_iteration if valid is not None and booster.best_iteration > 0 else booster.num_trees()
    )
    text = booster.model_to_string(num_iteration=trees)
    kept = lightgbm.Booster(model_str=text)

    def margin(features: F64) -> F64:
        margins: F64 = kept.predict(features.T, raw_score=True, num_threads=1)
        return margins

    return Boosted(text, int(trees), margin)
