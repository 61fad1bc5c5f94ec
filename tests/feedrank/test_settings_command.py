"""`feedrank settings` and the page made from the same classes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from feedrank import cli
from feedrank.settings_command import page
from streams.settings import known_variables

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name in known_variables() or name.startswith("FEEDRANK_"):
            monkeypatch.delenv(name)


def test_the_page_in_the_docs_is_the_one_that_is_made() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == page(), "run `make docs`"


def test_json_has_one_object_per_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TICK_S", "7")
    assert cli.run(["settings", "--json"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["name"] for one in shown} == known_variables()
    tick = next(one for one in shown if one["name"] == "TICK_S")
    assert (tick["value"], tick["default"], tick["origin"]) == ("7", "10", "environment")
    assert tick["meaning"]


def test_the_table_shows_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["settings"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in known_variables())
