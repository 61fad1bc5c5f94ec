"""`feedrank train` makes folders that load, and refuses what it cannot learn from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feedrank.cli import run
from feedrank.dataset.table import LABELS, Writer
from models.features import FEATURES, Planes
from models.learned.scorers import Linear, Trees
from models.tables import GRID
from streams.errors import ExitCode, OperatorError
from streams.manifest import MANIFEST, manifest_hash
from streams.policy_file import read_policy
from topologies.model_folder import read_manifest, read_model

NAMES = [feature.name for feature in FEATURES]
POLICY = read_policy()
KINDS = ["linear", "trees", "lambdarank"]


def data_set(path: Path, rate: float = 1.0, strong: float = 0.3, rows: int = 3_000) -> Path:
    """Slates of ten; clicks follow `author_followed` and `weak_rate_7d`."""
    rng = np.random.default_rng(1)
    features = rng.integers(-3 * GRID, 3 * GRID, (len(NAMES), rows)).astype(np.int32)
    followed, popular = (features[NAMES.index(n)] / GRID for n in ("author_followed", "weak_rate_7d"))
    p = rate / (1 + np.exp(2.0 - 1.5 * followed - 0.7 * popular))
    weak = rng.random(rows) < p
    split = np.array(
        ["train"] * (rows // 2) + ["valid"] * (rows // 4) + ["test"] * (rows - rows // 2 - rows // 4)
    )
    columns: dict[str, Any] = {
        "slate": np.arange(rows) // 10,
        "user": [f"u{n % 50}" for n in range(rows)],
        "item": [f"i{n}" for n in range(rows)],
        "author": [f"a{n % 40}" for n in range(rows)],
        "topic": [f"t{n % 9}" for n in range(rows)],
        "time_ms": np.arange(rows) * 1_000,
        "as_of_ms": np.arange(rows) * 1_000,
        "shown": np.ones(rows, bool),
        "eligible": np.ones(rows, bool),
        "position": np.arange(rows) % 10,
        "propensity": np.full(rows, np.nan),
        "place": np.full(rows, -1),
        "slate_slots": np.zeros(rows, np.int64),
        "slate_pool": np.zeros(rows, np.int64),
        "sources": np.ones(rows, np.int32),
        "policy": [""] * rows,
        "model": [""] * rows,
        "weak": weak,
        "strong": weak & (rng.random(rows) < strong),
        "negative": np.zeros(rows),
        "value": weak * 1.0,
        "dwell_ms": np.zeros(rows, np.int64),
        "split": split.tolist(),
        "origin": ["rebuilt"] * rows,
    }
    for name in LABELS:
        columns[name] = np.asarray(columns[name]).astype(np.int8)
    with Writer(path) as writer:
        writer.add(columns, features)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "set.parquet")


@pytest.fixture(scope="module")
def models(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each kind."""
    root = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        assert run(["train", str(data), str(root / kind), "--kind", kind, "--trees", "60"]) == 0
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_finds_what_made_the_clicks(models: Path, kind: str) -> None:
    manifest = read_manifest(models / kind)
    metrics = manifest["metrics"]["relevance" if kind == "lambdarank" else "weak"]
    assert metrics["auc"] > 0.75
    assert metrics["log_loss"] < metrics["log_loss_of_the_mean"]
    assert metrics["calibration_error"] < 0.06
    assert manifest["metrics"]["ndcg@10"]["low"] > 0.7
    assert manifest["exact"] == (kind == "linear")


@pytest.mark.parametrize("kind", KINDS)
def test_the_loaded_scorer_prefers_what_is_liked(models: Path, kind: str) -> None:
    scorer = read_model(models / kind, POLICY)
    assert isinstance(scorer, Linear if kind == "linear" else Trees)
    features = np.zeros((len(NAMES), 1, 3))
    features[NAMES.index("author_followed")] = [-2 * GRID, 0, 2 * GRID]
    score = scorer.score(Planes(features))[0]
    assert (np.diff(score) > 0).all()
    assert scorer.name.startswith(f"{kind}-")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_folder(data: Path, models: Path, tmp_path: Path, kind: str) -> None:
    again = tmp_path / kind
    assert run(["train", str(data), str(again), "--kind", kind, "--trees", "60"]) == 0
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {
        p.name: p.read_bytes() for p in (models / kind).iterdir()
    }


def test_isotonic_calibration(data: Path, tmp_path: Path) -> None:
    assert run(["train", str(data), str(tmp_path / "m"), "--calibration", "isotonic"]) == 0
    manifest = read_manifest(tmp_path / "m")
    assert manifest["calibration"]["weak"]["method"] == "isotonic"
    assert manifest["metrics"]["weak"]["calibration_error"] < 0.06


def test_a_head_with_hardly_any_labels_is_constant_and_said_so(models: Path) -> None:
    manifest = read_manifest(models / "linear")
    assert manifest["training"]["negative"]["constant"] == pytest.approx(0.5 / 1501)
    assert any(warning.startswith("negative: 0 positives") for warning in manifest["warnings"])


def test_no_clicks_at_all_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data_set(tmp_path / "set.parquet", rate=0.0)
    for kind in ("linear", "lambdarank"):
        assert run(["train", str(path), str(tmp_path / "m"), "--kind", kind]) == ExitCode.BAD_INPUT
    err = capsys.readouterr().err
    assert "gives no head enough to learn from" in err
    assert re.search(r"^weak: [\d,]+ rows, 0 positives, the same probability for all, 0\.\d+$", err, re.M)
    assert "has 0 rows with an action to train on" in err
    assert not (tmp_path / "m").exists()


def test_only_clicks_is_one_class_too(tmp_path: Path) -> None:
    path = data_set(tmp_path / "set.parquet", rate=1e9, strong=1.0)
    for kind in ("linear", "trees", "lambdarank"):
        assert run(["train", str(path), str(tmp_path / "m"), "--kind", kind]) == ExitCode.BAD_INPUT


def test_a_handful_of_clicks_is_not_enough_for_any_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = data_set(tmp_path / "set.parquet", rate=0.02)
    for kind in ("linear", "trees", "lambdarank"):
        assert run(["train", str(path), str(tmp_path / "m"), "--kind", kind]) == ExitCode.BAD_INPUT
    assert capsys.readouterr().err.count("20 of both are needed") >= 3


def test_another_folder_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is asked first: not even a data set that is missing comes before."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(b"x")
    asked = ["train", str(tmp_path / "none.parquet"), str(tmp_path / "photos")]
    assert run(asked) == ExitCode.USAGE
    assert "photos is there and holds no model" in capsys.readouterr().err
    assert (tmp_path / "photos" / "one.jpg").exists()


def test_another_kind_is_refused(data: Path, tmp_path: Path) -> None:
    assert run(["train", str(data), str(tmp_path / "m"), "--kind", "deep"]) == ExitCode.USAGE


def test_a_folder_that_is_no_model_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    assert run(["train", str(data), str(tmp_path / "precious")]) == ExitCode.USAGE
    assert (tmp_path / "precious" / "file").read_text() == "mine"


# -- what does not fit is refused ---------------------------------------------------------------------------


@pytest.fixture
def model(models: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    import shutil

    return Path(shutil.copytree(models / "linear", tmp_path / "spoilt"))


def edited(model: Path, **changes: Any) -> None:
    """Another manifest, honestly hashed."""
    manifest = json.loads((model / MANIFEST).read_text()) | changes
    manifest["hash"] = manifest_hash(manifest)
    (model / MANIFEST).write_text(json.dumps(manifest))


def refused(model: Path) -> str:
    with pytest.raises(OperatorError) as error:
        read_model(model, POLICY)
    assert error.value.exit_code == ExitCode.BAD_INPUT
    return error.value.message


def test_a_model_of_other_features_names_each_difference(model: Path) -> None:
    features = json.loads((model / MANIFEST).read_text())["features"]
    features.pop("age")
    edited(model, features=features | {"trend": 7, "gone": 1})
    message = refused(model)
    for part in ("gone is not known here", "age is missing there", "trend is version 7 there and 1 here"):
        assert part in message


def test_a_model_with_features_in_another_order(model: Path) -> None:
    features = json.loads((model / MANIFEST).read_text())["features"]
    edited(model, features=dict(reversed(features.items())))
    assert "another order" in refused(model)


def test_a_manifest_that_lies(model: Path) -> None:
    manifest = json.loads((model / MANIFEST).read_text())
    manifest["metrics"] = {"auc": 1.0}
    (model / MANIFEST).write_text(json.dumps(manifest))
    assert "its hash does not fit" in refused(model)


def test_numbers_that_were_changed(model: Path) -> None:
    path = model / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert "weights.safetensors is not the file that was trained" in refused(model)


def test_a_file_that_is_missing(model: Path) -> None:
    (model / "tables.safetensors").unlink()
    assert "tables.safetensors is missing" in refused(model)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"kind": "linear"}'])
def test_a_manifest_that_is_none(model: Path, text: str) -> None:
    (model / MANIFEST).write_text(text)
    assert "manifest" in refused(model)


def test_no_folder(tmp_path: Path) -> None:
    assert "manifest.json is missing" in refused(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "pickle"}, "its kind is 'pickle'"),
        ({"format": 9}, "format 9"),
        ({"heads": ["x"]}, "heads x"),
    ],
)
def test_a_manifest_of_another_world(model: Path, changes: dict[str, Any], told: str) -> None:
    edited(model, **changes)
    assert told in refused(model)


def test_fewer_heads_than_numbers(model: Path) -> None:
    edited(model, heads=["weak"])
    assert "tables has the shape" in refused(model)
