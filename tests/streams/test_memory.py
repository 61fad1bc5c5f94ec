"""Memory is there before it is written to, and what it holds stays."""

from __future__ import annotations

import resource
import sys

import numpy as np
import pytest

from streams.memory import populate

ROWS, ROW_BYTES = 20_000, 1_500


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_rows_get_memory_before_they_are_written() -> None:
    rows = np.zeros((ROWS, ROW_BYTES), np.uint8)
    rows[:100] = 7
    known = populate(rows, 50, 10_000)  # Linux 5.14
    before = faults()
    rows[100:9_990:2] = 1
    with_memory = faults() - before
    assert (rows[:100] == 7).all()
    assert not rows[9_990:].any()
    assert with_memory < 20 or not known, "15 MB in pages of 4 kB would be 3,700 faults, in huge ones 8"


@pytest.mark.parametrize(("first", "last"), [(0, 0), (5, 5), (ROWS, ROWS), (ROWS - 1, ROWS + 99), (0, 1)])
def test_nothing_beyond_the_array_is_asked_for(first: int, last: int) -> None:
    rows = np.zeros((ROWS, ROW_BYTES), np.uint8)
    beyond = np.zeros((4, ROW_BYTES), np.uint8)
    assert populate(rows, first, last) == populate(beyond, 0, 4)
    assert not rows.any()


def test_other_systems_are_let_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not populate(np.zeros((9, 9)), 0, 9)
