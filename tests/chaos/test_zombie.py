"""The zombie of 40 s, and that it would be noticed if nothing fenced it; `make zombie` runs it alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.zombie import run

pytestmark = [pytest.mark.kafka, pytest.mark.full]


@pytest.mark.parametrize("within", [True, False])
def test_a_frozen_worker_loses_and_doubles_nothing(tmp_path: Path, within: bool) -> None:
    report = run(tmp_path, within=within)
    assert not report.wrong, report.lines()


def test_without_the_fence_it_is_noticed(tmp_path: Path) -> None:
    assert run(tmp_path, within=False, module="tests.chaos.unfenced").wrong
