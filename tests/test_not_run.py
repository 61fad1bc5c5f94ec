"""What cannot run is said so that nobody overlooks it; where services must be there, it fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import absent, not_run
from tests.services import ROOT

NEEDS_DATA = "tests/feedrank/test_load.py::test_all_of_ranklens_is_read"


def test_a_missing_service_skips_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEEDRANK_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no real Redis"):
        absent("no real Redis")
    monkeypatch.setenv("FEEDRANK_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="FEEDRANK_REQUIRE_SERVICES=1, but no real Redis"):
        absent("no real Redis")


def test_no_test_skips_past_the_switch() -> None:
    skipping = {
        path.relative_to(ROOT).as_posix(): count
        for path in (ROOT / "tests").rglob("*.py")
        if (count := len(re.findall(r"pytest\.(?:skip|importorskip)\(", path.read_text())))
    }
    assert skipping == {"tests/conftest.py": 2}, "call tests.conftest.absent; only the data skips in any case"


def test_reasons_are_counted_most_tests_first() -> None:
    assert not_run([]) == []
    assert not_run(["Skipped: b", "Skipped: a", "a"]) == ["NOT RUN: 2 tests, a", "NOT RUN: 1 test, b"]


def test_a_run_without_the_data_ends_with_what_did_not_run(tmp_path: Path) -> None:
    environment = os.environ | {"FEEDRANK_DATA": str(tmp_path / "nowhere"), "FEEDRANK_REQUIRE_SERVICES": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", NEEDS_DATA],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    *_, footer, _ = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert footer.startswith("NOT RUN: 1 test, no real data: ")
    assert "set FEEDRANK_DATA to a folder with uboot/, ranklens/ and open_bandit/" in footer
