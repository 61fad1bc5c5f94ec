"""Linear models where a feature hardly varies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feedrank.dataset.table import DataSet, load
from feedrank.training.linear import L2_HEAVIER, L2_TRIED, best_linear, whole_units
from models.learned.scorers import WEIGHT_MAX
from streams.errors import OperatorError
from tests.feedrank.test_train import data_set

EVERY = 64
"""One row in so many has the feature, and only those are clicked."""


def rare(path: Path, value: int) -> tuple[DataSet, np.ndarray]:
    """Rows of which few have the first feature at all, `value` of its grid, and the clicks are theirs."""
    rows = load(data_set(path))
    label = np.arange(len(rows)) % EVERY == 0
    rows.features[:] = 0
    rows.features[0, label] = value
    return rows, label


def test_a_feature_that_hardly_varies_takes_more_l2(tmp_path: Path) -> None:
    rows, label = rare(tmp_path / "set.parquet", 400)
    model, l2, _ = best_linear(whole_units(rows), label, rows, label, tunable=True)
    assert l2 in L2_HEAVIER
    assert 0 < model.weights[0] <= WEIGHT_MAX


def test_one_that_varies_does_not(tmp_path: Path) -> None:
    rows, label = rare(tmp_path / "set.parquet", 16_384)
    _, l2, _ = best_linear(whole_units(rows), label, rows, label, tunable=True)
    assert l2 in L2_TRIED


def test_where_no_l2_is_enough_it_says_so(tmp_path: Path) -> None:
    rows, label = rare(tmp_path / "set.parquet", 1)
    with pytest.raises(OperatorError, match="even with an l2 of 100 a weight is beyond 16"):
        best_linear(whole_units(rows), label, rows, label, tunable=True)
