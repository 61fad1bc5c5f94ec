"""What each feature adds to a model's prediction (9), item by item: for people who ask why.

Exact for the default model and linear ones, whose predictions are sums; SHAP values for trees (TreeSHAP:
Lundberg et al., Nature Machine Intelligence 2, 2020), relative to what is usual in the data that they
learned from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.features import FEATURE_NAMES
from models.learned.scorers import Linear, Trees
from models.policy import HEADS, Policy
from models.score import RateLift
from models.tables import GRID

F64 = NDArray[np.float64]

ONE_HEAD = ("relevance",)
OF_PROBABILITY = "doublings of the probability"
OF_ODDS = "doublings of the odds"
OF_USUAL = "doublings of the odds, beside what is usual"


@dataclass(frozen=True, slots=True)
class Contributions:
    """Of n items: `values` float64[H, F, n] by `heads`, in `unit`; `exact`: they sum up to the prediction
    as it is computed, not as another library attributes it."""

    heads: tuple[str, ...]
    values: F64
    unit: str
    exact: bool


def contributions(policy: Policy, model: RateLift | Linear | Trees, features: F64) -> Contributions:
    """Of items with features float64[F, n], grid integers."""
    if isinstance(model, RateLift):
        weights = np.zeros((len(HEADS), len(FEATURE_NAMES)))
        for row, head in enumerate(HEADS):
            for name, weight in policy.weights[head].items():
                weights[row, FEATURE_NAMES.index(name)] = weight / GRID
        values = weights[:, :, None] * features / GRID
        return Contributions(tuple(head.name.lower() for head in HEADS), values, OF_PROBABILITY, True)
    found = model.contributions(features)
    heads = ONE_HEAD if len(found) == 1 else tuple(head.name.lower() for head in HEADS)
    linear = isinstance(model, Linear)
    return Contributions(heads, found, OF_ODDS if linear else OF_USUAL, linear)
