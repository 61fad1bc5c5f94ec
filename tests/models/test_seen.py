"""Seen pages: the last 512 exposures, by page, for many users at once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.seen import SeenPages
from models.users import new_rows

DAY = 19_000


def show(seen: SeenPages, rows: np.ndarray, slots: list[int], items: list[int], undo: bool = False) -> None:
    n = len(slots)
    seen.apply(rows, np.array(slots, np.int64), np.array(items, np.uint64), np.full(n, DAY), np.full(n, undo))


@given(st.lists(st.lists(st.integers(1, 30), max_size=200), max_size=12))
@settings(deadline=None)
def test_remembers_the_last_512_of_each_user(batches: list[list[int]]) -> None:
    seen, rows, history = SeenPages(2), new_rows(2), list[int]()
    for batch in batches:
        show(seen, rows, [0] * len(batch) + [1] * len(batch), [*batch, *(i + 100 for i in batch)])
        history += batch
    want = Counter(history[-512:])
    for slot, shift in ((0, 0), (1, 100)):
        expected = sorted((item + shift) << 32 | DAY << 16 | times for item, times in want.items())
        assert seen.entries(slot).tolist() == expected
    assert rows["seen_count"].tolist() == [len(history)] * 2


def test_more_than_512_at_once() -> None:
    seen, rows = SeenPages(1), new_rows(1)
    show(seen, rows, [0] * 1_300, list(range(1, 1_301)))
    assert (seen.entries(0) >> np.uint64(32)).tolist() == list(range(789, 1_301))


def test_a_withdrawn_exposure_counts_one_less() -> None:
    seen, rows = SeenPages(1), new_rows(1)
    show(seen, rows, [0, 0, 0], [5, 5, 6])
    show(seen, rows, [0, 0, 0], [5, 6, 7], undo=True)
    assert seen.entries(0).tolist() == [5 << 32 | DAY << 16 | 1]


def test_a_cut_has_only_pages_written_since_and_restores_to_the_same() -> None:
    seen, rows = SeenPages(2), new_rows(2)
    show(seen, rows, [0] * 70 + [1], [*range(1, 71), 9])
    assert seen.cut() == 3
    coming = seen.copies()
    show(seen, rows, [0], [99])  # the newest page is copied first, as it was
    parts = list(coming)
    slots, numbers = (np.concatenate([part[at] for part in parts]) for at in (0, 1))
    pages = [page for part in parts for page in part[2]]
    assert sorted(zip(slots.tolist(), numbers.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0)]
    assert seen.cut() == 1
    [later] = seen.copies()
    assert (later[0].tolist(), later[1].tolist()) == ([0], [1])
    copy = SeenPages(2)
    copy.restore(slots, numbers, b"".join(pages))
    copy.restore(later[0], later[1], b"".join(later[2]))
    for slot in range(2):
        assert copy.entries(slot).tolist() == seen.entries(slot).tolist()
    assert copy.cut() == 0


def test_pages_of_evicted_users_serve_others_empty() -> None:
    seen, rows = SeenPages(2), new_rows(2)
    show(seen, rows, [0] * 100, list(range(1, 101)))
    assert seen.pages == 2
    seen.cut()
    seen.release(np.array([0, 1]))
    assert (seen.pages, seen.entries(0).size) == (0, 0)
    show(seen, rows, [1], [7])
    assert (seen.pages, seen.entries(1).size) == (1, 1)


def test_many_users_have_pages_of_their_own() -> None:
    seen, rows = SeenPages(5_000), new_rows(5_000)
    show(seen, rows, list(range(5_000)), list(range(1, 5_001)))
    assert all((seen.entries(s) >> np.uint64(32)).tolist() == [s + 1] for s in range(0, 5_000, 97))


def test_pages_of_another_layout_are_refused() -> None:
    with pytest.raises(ValueError, match="another version"):
        SeenPages(1).restore(np.array([0]), np.array([0]), b"short")
    with pytest.raises(ValueError, match="another version"):
        SeenPages(1).restore(np.array([0]), np.array([8]), bytes(512))
