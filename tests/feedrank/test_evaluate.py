"""`feedrank evaluate`: models beside each other, as text, JSON and one page; some answers are refused."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feedrank.cli import run
from feedrank.dataset.table import Writer, load
from feedrank.evaluation.offline import answers
from feedrank.evaluation.page import html
from models.features import FEATURES
from models.tables import GRID
from streams.errors import ExitCode
from tests.feedrank.test_train import data_set

NAMES = [feature.name for feature in FEATURES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set and a model trained on it."""
    folder = tmp_path_factory.mktemp("evaluate")
    data_set(folder / "set.parquet", rows=4_000)
    assert run(["train", str(folder / "set.parquet"), str(folder / "model")]) == 0
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> dict[str, Any]:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        arguments = ["--model", str(folder / "model"), "--json", "--html", str(folder / "page.html")]
        assert run(["evaluate", str(folder / "set.parquet"), *arguments]) == 0
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_the_trained_model_is_better_and_the_gain_is_clear(page: dict[str, Any]) -> None:
    default, trained = page["models"]
    assert default["name"] == page["compared_with"] == "default"
    gain = trained["lists"]["NDCG@10"]["gain"]
    assert gain["low"] > 0
    difference = trained["lists"]["NDCG@10"]["all"]["value"] - default["lists"]["NDCG@10"]["all"]["value"]
    assert gain["value"] == pytest.approx(difference, abs=1e-3)
    assert trained["heads"]["weak"]["calibration error"] < default["heads"]["weak"]["calibration error"]


def test_every_metric_of_the_design_is_there(page: dict[str, Any]) -> None:
    model = page["models"][1]
    assert {"NDCG@10", "MRR", "recall@10", "authors@10", "topics@10", "novelty@10"} == model["lists"].keys()
    assert {"coverage@10", "AUC of fresh items"} == model["whole"].keys()
    assert {"AUC", "log loss", "calibration error"} <= model["heads"]["weak"].keys()
    assert page["segments"].keys() == {"new users", "light users", "heavy users"}
    assert sum(page["segments"].values()) == page["slates"]
    assert sum(rows for _, _, rows in model["calibration"]["weak"]) == page["rows"]


def test_without_exploration_off_policy_estimates_are_refused(page: dict[str, Any]) -> None:
    for some in page["off_policy"].values():
        assert [one["estimator"] for one in some] == ["IPS", "SNIPS", "DR", "RIPS", "cascade-DR"]
        assert all("no shown row has a propensity" in one["refused"] for one in some[:3])
        assert all("no slate was drawn" in one["refused"] for one in some[3:])


class Checked(HTMLParser):
    """Collects tags and what would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "xlink:href")]


def test_the_page_needs_nothing_beside_itself(folder: Path, page: dict[str, Any]) -> None:
    text = (folder / "page.html").read_text()
    found = Checked()
    found.feed(text)
    assert found.fetched == []
    assert "script" not in found.tags
    assert found.tags.count("svg") >= 4
    assert found.tags.count("table") == 4
    for model in page["models"]:
        assert model["name"] in text
    assert "NaN" not in text
    assert "nan" not in text.replace("finance", "")


def test_the_page_is_readable_in_the_dark_and_a_model_keeps_its_colour(page: dict[str, Any]) -> None:
    only = page["models"][1]
    head = next(iter(only["calibration"]))
    first = {**page["models"][0], "calibration": {}}
    text = html({**page, "models": [first, only]})
    assert "prefers-color-scheme:dark" in text
    assert not re.findall(r'(?:stroke|fill)="#', text)
    plot = text.partition(f"<title>calibration of {head}")[2].partition("</svg>")[0]
    assert "var(--c1)" in plot
    assert "var(--c0)" not in plot


def test_text_names_gains_and_refusals(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(folder / "set.parquet"), "--model", str(folder / "model")]) == 0
    out = capsys.readouterr().out
    assert "over default +" in out
    assert "refused: no shown row has a propensity" in out


@pytest.mark.parametrize("split", ["gap", "tomorrow"])
def test_another_split_is_refused(folder: Path, split: str) -> None:
    assert run(["evaluate", str(folder / "set.parquet"), "--split", split]) == ExitCode.USAGE


def test_no_clicks_to_judge_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_set(tmp_path / "set.parquet", rate=0.0)
    assert run(["evaluate", str(tmp_path / "set.parquet")]) == ExitCode.BAD_INPUT
    assert "no order is better than another" in capsys.readouterr().err


# -- drawn slots -----------------------------------------------------------------------------------------


def drawn(path: Path, slates: int = 1_200, pool: int = 8, missing: int = 0, seed: int = 6) -> Path:
    """Slates with one drawn slot each and its whole pool; `author_followed` says what is clicked.
    `missing`: eligible candidates that the file does not have."""
    rng = np.random.default_rng(seed)
    rows = slates * pool
    features = rng.integers(-2 * GRID, 2 * GRID, (len(NAMES), rows)).astype(np.int32)
    shown = np.zeros((slates, pool), bool)
    shown[np.arange(slates), rng.integers(0, pool, slates)] = True
    flat = shown.reshape(-1)
    p = 1 / (1 + np.exp(1 - features[NAMES.index("author_followed")] / GRID))
    weak = (flat & (rng.random(rows) < p)).astype(np.int8)
    columns: dict[str, Any] = {
        "slate": np.arange(rows) // pool,
        **{name: [f"{name}{n}" for n in range(rows)] for name in ("user", "item", "author", "topic")},
        **{name: np.arange(rows) for name in ("time_ms", "as_of_ms")},
        "shown": flat,
        "eligible": np.ones(rows, bool),
        "position": np.where(flat, 3, -1),
        "propensity": np.where(flat, 1 / (pool + missing), np.nan),
        "place": np.full(flat.size, -1),
        "slate_slots": np.zeros(flat.size, np.int64),
        "slate_pool": np.zeros(flat.size, np.int64),
        "sources": np.ones(rows, np.int32),
        "policy": [""] * rows,
        "model": [""] * rows,
        "weak": weak,
        "strong": np.zeros(rows, np.int8),
        "negative": np.zeros(rows, np.int8),
        "value": weak * 1.0,
        "dwell_ms": np.zeros(rows, np.int64),
        "split": ["test"] * rows,
        "origin": ["logged"] * rows,
    }
    with Writer(path) as writer:
        writer.add(columns, features)
    return path


def test_impressions_that_stand_alone_have_no_order_to_judge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn(tmp_path / "set.parquet", slates=50)
    assert run(["evaluate", str(tmp_path / "set.parquet")]) == ExitCode.BAD_INPUT
    assert "in any split, so there is no order to judge" in capsys.readouterr().err


def test_drawn_slots_tell_what_another_order_would_earn(tmp_path: Path) -> None:
    data = load(drawn(tmp_path / "drawn.parquet"))
    scores = data.features[NAMES.index("author_followed")].astype(np.float64)
    rate = 1 / (1 + np.exp(1 - scores / GRID))
    best = np.sort(scores.reshape(-1, 8), axis=1)[:, -2:]
    truth = float((1 / (1 + np.exp(1 - best / GRID))).mean())
    for one in answers(data, "test", scores, rate):
        assert one.value is not None, one.refused
        assert one.value.low - 0.02 <= truth <= one.value.high + 0.02
        assert one.value.value > data.value[data.shown].mean() + 0.1


def test_pools_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    data = load(drawn(tmp_path / "drawn.parquet", missing=1))
    found = answers(data, "test", np.zeros(len(data)), np.zeros(len(data)))
    assert all("no drawn slot has all that could have been drawn" in one.refused for one in found)


def test_without_what_was_not_shown_nothing_is_said(tmp_path: Path) -> None:
    data = load(drawn(tmp_path / "drawn.parquet"))
    shown = data.where(data.shown)
    found = answers(shown, "test", np.zeros(len(shown)), np.zeros(len(shown)))
    assert all("--candidates" in one.refused for one in found)


def test_few_drawn_slots_are_refused(tmp_path: Path) -> None:
    data = load(drawn(tmp_path / "drawn.parquet", slates=100))
    found = answers(data, "test", np.zeros(len(data)), np.zeros(len(data)))
    assert all("effective sample" in one.refused for one in found)
