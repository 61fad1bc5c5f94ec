"""Training leaves out what a position adds: features that only say where an item stood get nothing for it."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

from feedrank.cli import run
from feedrank.dataset.table import DataSet, load
from feedrank.training.fit import CORRECTED, IGNORED, Spec, train
from models.evaluation.lists import ndcg, ranked
from models.features import FEATURE_NAMES
from models.learned import position
from models.tables import GRID
from streams.manifest import MANIFEST
from tests.feedrank.test_train import data_set

OLD, TRUE = FEATURE_NAMES.index("similarity_long"), FEATURE_NAMES.index("weak_rate_7d")
SLATES, SLATE = 1_500, 10
OLD_WEIGHT, TRUE_WEIGHT = 0.0, 0.8
FALL = 0.35
"""Log odds that each further position costs."""


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Slates in the order of OLD, which people do not care for; clicks follow TRUE and the position."""
    rows = load(data_set(tmp_path_factory.mktemp("position") / "set.parquet", rows=SLATES * SLATE))
    rng = np.random.default_rng(5)
    features = np.zeros_like(rows.features)
    features[[OLD, TRUE]] = rng.integers(-2 * GRID, 2 * GRID, (2, len(rows)))
    shown = np.argsort(np.argsort(-features[OLD].reshape(SLATES, SLATE), axis=1), axis=1).reshape(-1)
    z = TRUE_WEIGHT * features[TRUE] / GRID + OLD_WEIGHT * features[OLD] / GRID - FALL * shown
    labels = np.zeros_like(rows.labels)
    labels[0] = rng.random(len(rows)) < 1 / (1 + np.exp(-z))
    rows.features[:], rows.labels[:], rows.position[:] = features, labels, shown
    return rows


def weights(rows: DataSet, how: str) -> tuple[float, float]:
    """Of OLD and TRUE in a linear model."""
    model = train(rows, Spec("linear", "m", position=how), lambda told: None).heads[0].linear
    assert model is not None
    return float(model.weights[OLD]), float(model.weights[TRUE])


def test_a_linear_model_gives_the_old_order_no_credit(biased: DataSet) -> None:
    old, true = weights(biased, IGNORED)
    assert old > 0.5, "what was shown high was clicked"
    old, true = weights(biased, CORRECTED)
    assert abs(old) < 0.12
    assert true == pytest.approx(TRUE_WEIGHT, abs=0.1)


def test_the_offsets_are_those_that_made_the_clicks(biased: DataSet) -> None:
    told = train(biased, Spec("linear", "m"), lambda told: None).heads[0].told
    offsets = np.array(told["position_offsets"])[:SLATE]
    assert np.diff(offsets) == pytest.approx(-FALL, abs=0.5)
    assert offsets[0] - offsets[9] == pytest.approx(9 * FALL, abs=0.4)
    assert offsets.mean() == pytest.approx(0.0, abs=0.02), "an average position changes nothing"


@pytest.mark.parametrize("kind", ["linear", "trees", "lambdarank"])
def test_corrected_models_find_what_people_like(biased: DataSet, kind: str) -> None:
    test = biased.of("test")
    liked = (test.features[TRUE] / GRID).astype(np.float64)
    relevance = np.digitize(liked, [0.0, 1.0, 1.5]).astype(np.float64)

    def reached(how: str) -> float:
        model = train(biased, Spec(kind, "m", trees=60, position=how), lambda told: None)
        x = test.features / GRID if kind == "linear" else test.features.astype(np.float64)
        lists = ranked(test.slate, model.heads[0].margin(x), np.arange(len(test)).astype(np.uint64))
        return float(np.nanmean(ndcg(lists, relevance, SLATE)))

    corrected, ignored = reached(CORRECTED), reached(IGNORED)
    assert corrected > 0.95
    assert corrected > ignored + 0.05


def test_without_a_bias_there_is_nothing_to_leave_out(biased: DataSet) -> None:
    rng = np.random.default_rng(6)
    fair = deepcopy(biased)  # other tests share the biased one
    fair.labels[0] = rng.random(len(fair)) < 1 / (1 + np.exp(-TRUE_WEIGHT * fair.features[TRUE] / GRID))
    model = train(fair, Spec("linear", "m"), lambda told: None).heads[0]
    assert np.abs(model.told["position_offsets"][:SLATE]).max() < 0.25


def test_unknown_positions_are_left_as_they_are(tmp_path: Path) -> None:
    shown = np.full(1_000, -1)
    assert not position.known(shown)
    assert (position.bins(shown) == position.UNKNOWN).all()
    assert position.bins(np.array([0, 9, 10, 14, 15, 49, 50, 499])).tolist() == [0, 9, 10, 10, 11, 12, 13, 13]
    data = data_set(tmp_path / "set.parquet", rows=1_000)
    for how in (CORRECTED, IGNORED):
        assert run(["train", str(data), str(tmp_path / how), "--position", how]) == 0
        assert json.loads((tmp_path / how / MANIFEST).read_text())["position"] == how
    assert run(["train", str(data), str(tmp_path / "x"), "--position", "guess"]) != 0


def test_margins_are_of_an_average_position(biased: DataSet) -> None:
    model = train(biased, Spec("linear", "m"), lambda told: None).heads[0]
    assert model.linear is not None
    p = 1 / (1 + np.exp(-model.margin(biased.features / GRID)))
    assert p.mean() == pytest.approx(biased.labels[0].mean(), abs=0.05)
