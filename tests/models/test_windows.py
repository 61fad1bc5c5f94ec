"""Rings read for people: in the order of time, masked at the time asked for, as plain sums say."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.item_deltas import Deltas
from models.items import D1, H1, ITEM_ROW, M5, apply_deltas
from models.tables import EPOCH_MS
from models.windows import bars, long_counts, window

BUCKET_MS = 300_000
START = 5_900_000
CELLS = st.lists(
    st.tuples(st.integers(0, 3_000), st.integers(0, 3), st.integers(-2, 5)), min_size=1, max_size=30
)


def row_of(cells: list[tuple[int, int, int]]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    row = np.zeros(1, ITEM_ROW)
    bucket, column, count = (np.array(part) for part in zip(*cells, strict=True))
    none = np.zeros(0, np.uint64)
    cells_of = np.zeros(len(cells), np.uint64), (bucket + START).astype(np.int32)
    counts = count.astype(np.int32), column.astype(np.int8)
    deltas = Deltas(0, 0, 0, *cells_of, *counts, none, none, none.astype(np.uint32))
    apply_deltas(row, np.zeros(len(cells), np.int64), np.zeros(0, np.int64), deltas)
    return row


@settings(deadline=None, max_examples=50)
@given(CELLS, st.integers(-400, 3_400))
def test_each_bucket_stands_at_its_time(cells: list[tuple[int, int, int]], at: int) -> None:
    row = row_of(cells)
    as_of_ms = (START + at) * BUCKET_MS + 17
    newest_ms = (START + max(bucket for bucket, _, _ in cells)) * BUCKET_MS
    for ring in (M5, H1, D1):
        read = window(ring, row, as_of_ms)
        plain: Counter[tuple[int, int]] = Counter()
        for bucket, column, count in cells:
            plain[(START + bucket) * BUCKET_MS // ring.length_ms, column] += count
        oldest = as_of_ms // ring.length_ms - ring.kept + 1
        assert read.begins_ms == oldest * ring.length_ms
        assert read.whole == (oldest > newest_ms // ring.length_ms - ring.kept)
        for place in range(ring.kept):
            held = newest_ms // ring.length_ms - ring.kept < oldest + place <= newest_ms // ring.length_ms
            for column in range(4):
                assert read.counts[place, column] == (plain[oldest + place, column] if held else 0)
        assert read.sums == [max(int(one), 0) for one in read.counts.sum(axis=0)]


def test_long_decays_are_counts_that_halve_in_thirty_days() -> None:
    row = row_of([(0, 2, 8)])
    now_ms = START * BUCKET_MS
    assert abs(long_counts(row, now_ms)[2] - 8) < 0.02
    assert abs(long_counts(row, now_ms + 30 * 86_400_000)[2] - 4) < 0.02
    assert now_ms // EPOCH_MS > 0


def test_a_plot_has_one_mark_per_bucket() -> None:
    assert bars(np.array([0, 0])) == "  "
    assert bars(np.array([1, 100, -3, 0])) == "▁█▔ "
