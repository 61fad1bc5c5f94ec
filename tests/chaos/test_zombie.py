"""The zombie of 40 s, and that it would be noticed if nothing fenced it; `make zombie` runs it alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.zombie import run

pytestmark = [pytest.mark.kafka, pytest.mark.full]


def test_a_worker_frozen_in_a_checkpoint_loses_and_doubles_nothing(tmp_path: Path) -> None:
    report = run(tmp_path)
    assert not report.wrong, report.lines()


def test_without_the_fence_it_is_noticed(tmp_path: Path) -> None:
    assert run(tmp_path, module="tests.chaos.unfenced").wrong
