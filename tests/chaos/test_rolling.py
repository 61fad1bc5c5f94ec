"""A rolling restart of three workers holds no partition up for long; `make rolling` prints how long."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from tests.chaos.rolling import run
from tests.waiting import slowness

pytestmark = [pytest.mark.kafka, pytest.mark.full]
GAP_S_MAX = 2.0


def test_a_partition_stands_still_for_two_seconds_at_most(tmp_path: Path) -> None:
    gaps = run(tmp_path, static=False)
    assert min(gaps) > 0, "a partition never moved: nothing was shown"
    assert statistics.median(gaps) < GAP_S_MAX * slowness()
