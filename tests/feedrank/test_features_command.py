"""`feedrank features`: the catalogue is made from the definitions, and from what a data set shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from feedrank.catalogue.page import of
from feedrank.cli import run
from models.features import FEATURES
from streams.errors import ExitCode
from tests.feedrank.test_train import data_set

ROOT = Path(__file__).resolve().parents[2]
MEASURED = json.loads((ROOT / "feedrank" / "catalogue" / "measured.json").read_text())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a data set whose clicks follow `author_followed` and `weak_rate_7d`."""
    root = tmp_path_factory.mktemp("features")
    data = data_set(root / "set.parquet")
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr(
            "builtins.print", lambda *a, file=None, **k: lines.append(a[0]) if file is None else None
        )
        asked = ["features", "--measure", str(data), "--name", "made up", "--told", "for a test"]
        assert run(asked) == ExitCode.OK
    (root / "measured.json").write_text("\n".join(lines))
    return root / "measured.json"


def test_what_made_the_clicks_is_missed_and_nothing_else_much(measured: Path) -> None:
    found = json.loads(measured.read_text())["made up"]
    assert set(found["features"]) == {feature.name for feature in FEATURES}
    clear = {name for name, one in found["features"].items() if one["linear"]["low"] > 0}
    assert "author_followed" in clear
    assert len(clear) <= 2 + len(FEATURES) // 10
    largest = sorted(found["features"], key=lambda name: -found["features"][name]["linear"]["value"])
    assert "weak_rate_7d" in largest[:4]
    followed = found["features"]["author_followed"]["linear"]
    assert followed["value"] > 0.05
    assert followed["low"] < followed["value"] < followed["high"]
    assert found["families"]["affinity"]["linear"]["low"] > 0
    assert found["features"]["author_followed"]["missing"] < 0.01
    unweighed = [f.name for f in FEATURES if found["features"][f.name]["default_model"] is None]
    assert "hour" in unweighed
    assert found["families"]["affinity"]["missing"] is None


def test_the_catalogue_shows_it(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["features", "--measured", str(measured), "--markdown"]) == ExitCode.OK
    page = capsys.readouterr().out
    assert "**made up**: for a test" in page
    row = next(line for line in page.splitlines() if line.startswith("| `author_followed`"))
    assert "**+" in row
    assert run(["features", "--measured", str(measured)]) == ExitCode.OK
    assert "made up: missing" in capsys.readouterr().out
    assert run(["features", "--measured", str(measured), "--json"]) == ExitCode.OK
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines] == [feature.name for feature in FEATURES]
    assert all(line["measured"]["made up"]["linear"] for line in lines)


def test_a_feature_of_another_version_was_not_measured(measured: Path) -> None:
    found = json.loads(measured.read_text())["made up"]
    assert of(found, FEATURES[0]) is not None
    found["features"][FEATURES[0].name]["version"] += 1
    assert of(found, FEATURES[0]) is None


def test_the_page_is_the_one_in_docs(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["features", "--markdown"]) == ExitCode.OK
    assert capsys.readouterr().out == (ROOT / "docs" / "features.md").read_text(), "run `make docs`"


def test_every_feature_was_measured_where_data_can_show_it() -> None:
    for feature in FEATURES:
        assert any(of(data, feature) for data in MEASURED.values()), feature.name


def test_too_little_to_measure_on_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_set(tmp_path / "no.parquet", rate=0.0, rows=400)
    assert run(["features", "--measure", str(data)]) == ExitCode.BAD_INPUT
    assert "0 actions among" in capsys.readouterr().err
    (tmp_path / "other.json").write_text('{"x": 1}')
    assert run(["features", "--measured", str(tmp_path / "other.json")]) == ExitCode.BAD_INPUT
    assert "make it anew" in capsys.readouterr().err
