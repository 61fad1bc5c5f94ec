"""A short run of the fuzzer; `make fuzz` runs a long one."""

from __future__ import annotations

from tests.fuzz.__main__ import run

RECORDS = 20_000


def test_mutated_records_become_one_dead_letter_each_and_touch_no_neighbour() -> None:
    tally = run(RECORDS, 7_000_000)
    assert tally.mutated >= RECORDS
    assert tally.refused > RECORDS // 2
    assert tally.still_good > RECORDS // 50
