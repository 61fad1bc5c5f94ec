"""`feedrank policy check` and `feedrank features`: what an operator sees of policies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from feedrank.cli import run
from models.features import FEATURE_NAMES
from streams.errors import ExitCode
from streams.policy_file import policy_text, read_policy
from tests.feedrank.test_train import data_set

Captured = pytest.CaptureFixture[str]


def test_the_bundled_policy_is_good_and_quiet(capsys: Captured) -> None:
    assert run(["policy", "check"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert read_policy().version in shown
    assert "warning" not in shown


def test_an_action_that_rules_alone_is_warned_of(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "loud.toml"
    file.write_text(policy_text().replace("value = 6.0", "value = 60.0"))
    assert run(["policy", "check", str(file)]) == ExitCode.OK
    assert "warning: strong holds" in capsys.readouterr().out
    assert run(["policy", "check", str(file), "--json"]) == ExitCode.OK
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["action"]: line["warning"] for line in lines} == {
        "weak": False,
        "strong": True,
        "negative": False,
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version = 3\n", "line 1: version is 3"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_wrong_file_ends_with_one_line_and_its_exit_code(
    content: bytes | None, says: str, tmp_path: Path, capsys: Captured
) -> None:
    file = tmp_path / "wrong.toml"
    if content is not None:
        file.write_bytes(content)
    assert run(["policy", "check", str(file)]) == ExitCode.POLICY
    shown = capsys.readouterr().err
    assert says in shown
    assert shown.count("\n") == 1


def test_models_that_it_names_are_loaded(tmp_path: Path, capsys: Captured) -> None:
    """A worker with this policy would not start: better said here."""
    file = tmp_path / "trained.toml"
    file.write_text(policy_text() + '\n[model]\nlight = "light"\n')
    assert run(["policy", "check", str(file)]) == ExitCode.BAD_INPUT
    assert f"{tmp_path / 'light'}: manifest.json is missing; train one" in capsys.readouterr().err
    data_set(tmp_path / "set.parquet", rows=600)
    assert run(["train", str(tmp_path / "set.parquet"), str(tmp_path / "light")]) == ExitCode.OK
    capsys.readouterr()
    assert run(["policy", "check", str(file)]) == ExitCode.OK
    assert "ranks with light-" in capsys.readouterr().out


def test_all_features_are_listed(capsys: Captured) -> None:
    assert run(["features", "--json"]) == ExitCode.OK
    named = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    assert tuple(named) == FEATURE_NAMES
    assert run(["features"]) == ExitCode.OK
    assert "similarity_long" in capsys.readouterr().out
