"""A short chaos in every run; `make chaos` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import run

pytestmark = pytest.mark.kafka


def test_twelve_faults_leave_no_trace(tmp_path: Path, redis_url: str) -> None:
    report = run(tmp_path, seed=1, faults=12, seconds=120)
    print("\n".join(report.lines()))
    assert not report.wrong
    assert sum(report.faults.values()) == 12
