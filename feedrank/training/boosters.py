"""LightGBM: the only place that trains with it. One thread, one seed, deterministic mode."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import OperatorError
from streams.model_folder import feature_versions

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
        raise OperatorError("trees need lightgbm; install it: pip install 'feedrank[train]'") from error
    return lightgbm


def boost(
    features: F64, label: NDArray[np.bool_], held: tuple[F64, NDArray[np.bool_]] | None, spec: Spec
) -> Boosted:
    """A binary classifier. `held`: rows on which training stops early."""
    lightgbm = _lightgbm()
    data = lightgbm.Dataset(
        features.T, label.astype(np.int8), feature_name=_names(features), free_raw_data=False
    )
    valid = None if held is None else data.create_valid(held[0].T, held[1].astype(np.int8))
    return _train(
        lightgbm, _params(spec) | {"objective": "binary", "metric": "binary_logloss"}, data, valid, spec
    )


def rank(features: F64, grade: I64, slate: I64, held: tuple[F64, I64, I64] | None, spec: Spec) -> Boosted:
    """LambdaRank over slates (Burges, 2010). Rows may come in any order."""
    lightgbm = _lightgbm()

    def grouped(x: F64, y: I64, groups: I64) -> tuple[F64, I64, I64]:
        order = np.argsort(groups, kind="stable")
        return x.T[order], y[order], np.unique(groups, return_counts=True)[1]

    x, y, sizes = grouped(features, grade, slate)
    data = lightgbm.Dataset(x, y, group=sizes, feature_name=_names(features), free_raw_data=False)
    valid = None
    if held is not None:
        x, y, sizes = grouped(*held)
        valid = data.create_valid(x, y, group=sizes)
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
