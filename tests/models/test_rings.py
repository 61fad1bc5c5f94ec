"""Rings: buckets enter, expire and are masked by event time alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.rings import Ring, add, advance

ROW = np.dtype([("head", "<i8"), ("ring", "<i2", (5, 4))])
RING = Ring(ROW, "ring", 1_000)
ONE = np.zeros(1, np.int64)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3), st.integers(-2, 3)), min_size=1, max_size=40)
)
def test_holds_exactly_the_buckets_up_to_the_newest(events: list[tuple[int, int, int]]) -> None:
    rows, newest = np.zeros(2, ROW), 0
    for bucket, column, value in events:
        latest = max(newest, bucket)
        advance([RING], rows, ONE, np.array([newest * 1_000 + 7]), np.array([latest * 1_000]))
        newest = latest
        if bucket > newest - RING.kept:
            add(RING, rows, ONE, np.array([bucket]), np.array([column]), np.array([value]))
    want = np.zeros((5, 4), np.int64)
    for bucket, column, value in events:
        if bucket > newest - 5:
            want[bucket % 5, column] += value
    np.testing.assert_array_equal(rows["ring"][0], want)
    assert not rows["ring"][1].any()
    assert not rows["head"].any()


def test_equal_cells_add_up_and_wrap() -> None:
    rows = np.zeros(1, ROW)
    n = 3
    add(RING, rows, np.zeros(n, np.int64), np.full(n, 7), np.full(n, 1), np.array([32_767, 1, 1]))
    assert rows["ring"][0, 2].tolist() == [0, -32_767, 0, 0]


def test_masks_what_is_not_in_the_window_and_changes_nothing() -> None:
    rows = np.zeros(1, ROW)
    rows["ring"][0, :, 0] = [10, 6, 7, 8, 9]  # newest bucket 10, place b % 5
    before = rows.tobytes()

    def seen(now: int, window: int = 5) -> list[int]:
        masked = RING.masked(rows, np.array([10]), np.array([now]), window)
        return sorted(masked[0, :, 0].tolist())

    assert seen(10) == [6, 7, 8, 9, 10]
    assert seen(12) == [0, 0, 8, 9, 10]
    assert seen(8) == [0, 0, 6, 7, 8]
    assert seen(10, window=2) == [0, 0, 0, 9, 10]
    assert seen(15) == [0] * 5
    assert rows.tobytes() == before
