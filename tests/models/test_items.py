"""Item deltas and rows: any order and grouping of the same deltas gives identical bytes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_user import DAY_MS, HOUR_MS, T0

from models import items
from models.item_deltas import Deltas
from models.tables import LONG_WEIGHT

FPS = np.array([11, 12, 13], np.uint64)


def slots_of(fps: np.ndarray) -> np.ndarray:
    return np.searchsorted(FPS, fps)


def random_deltas(seed: int, cells: int, engagers: int, spread: int) -> Deltas:
    rng = np.random.default_rng(seed)
    newest = T0 // 300_000
    times = rng.integers(0, spread // 1000 + 1, engagers)
    return Deltas(
        0,
        0,
        0,
        rng.choice(FPS, cells),
        (newest - rng.integers(0, spread // 300_000 + 1, cells)).astype(np.int32),
        rng.integers(-3, 9, cells).astype(np.int32),
        rng.integers(0, 6, cells).astype(np.int8),
        rng.choice(FPS, engagers),
        rng.integers(2, 60, engagers).astype(np.uint64),
        (T0 // 1000 - times).astype(np.uint32),
    )


def part(deltas: Deltas, cells: np.ndarray, engagers: np.ndarray) -> Deltas:
    changes = {n: getattr(deltas, n)[cells] for n in ("cell_fp", "bucket", "count", "column")}
    changes |= {n: getattr(deltas, n)[engagers] for n in ("engager_fp", "engager", "engager_s")}
    return replace(deltas, **changes)


def apply(rows: np.ndarray, deltas: Deltas) -> None:
    items.apply_deltas(rows, slots_of(deltas.cell_fp), slots_of(deltas.engager_fp), deltas)


@given(
    st.integers(0, 2**32), st.sampled_from([0, HOUR_MS, 30 * HOUR_MS, 9 * DAY_MS, 600 * DAY_MS]), st.data()
)
@settings(max_examples=80, deadline=None)
def test_order_and_grouping_do_not_matter(seed: int, spread: int, data: st.DataObject) -> None:
    deltas = random_deltas(seed, 60, 60, spread)
    whole, pieces = items.new_rows(3), items.new_rows(3)
    apply(whole, deltas)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    cells, engagers = rng.permutation(60), rng.permutation(60)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, 60), max_size=6))), 60]
    for start, stop in pairwise(cuts):
        apply(pieces, part(deltas, cells[start:stop], engagers[start:stop]))
    assert whole.tobytes() == pieces.tobytes()
    check_plain(whole, deltas)


def check_plain(rows: np.ndarray, deltas: Deltas) -> None:
    for slot, fp in enumerate(FPS):
        cells = [
            (int(b), int(c), int(n))
            for f, b, c, n in zip(deltas.cell_fp, deltas.bucket, deltas.column, deltas.count, strict=True)
            if f == fp
        ]
        if not cells:
            continue
        newest = max(b for b, _, _ in cells)
        assert rows["newest_ms"][slot] == newest * 300_000
        for name, per, kept in (("m5", 1, 12), ("h1", 12, 24), ("d1", 288, 7)):
            table = np.zeros((kept, 5), np.int64)
            for b, c, n in cells:
                if c < 5 and b // per > newest // per - kept:
                    table[b // per % kept, c] += n
            np.testing.assert_array_equal(rows[name][slot], table)
        examined = np.zeros((7, 1), np.int64)
        for b, c, n in cells:
            if c == 5 and b // 288 > newest // 288 - 7:
                examined[b // 288 % 7, 0] += n
        np.testing.assert_array_equal(rows["examined"][slot], examined)
        long = np.zeros((2, 5), np.int64)
        for b, c, n in cells:
            if c < 5 and b // 69_120 > newest // 69_120 - 2:
                long[b // 69_120 % 2, c] += n * int(LONG_WEIGHT[b % 69_120 // 12])
        np.testing.assert_array_equal(rows["long"][slot], long)
        engaging = [b * 300 for b, c, _ in cells if c in (1, 2)]
        assert (rows["first_s"][slot], rows["last_s"][slot]) == (
            min(engaging, default=0),
            max(engaging, default=0),
        )
        latest: dict[int, tuple[int, int]] = {}
        for f, who, at in zip(deltas.engager_fp, deltas.engager, deltas.engager_s, strict=True):
            if f == fp:
                user = int(who) >> 1
                latest[user] = max(latest.get(user, (0, 0)), (int(at), int(who) & 1))
        top = sorted(((at, user, flag) for user, (at, flag) in latest.items()), reverse=True)[:16]
        top += [(0, 0, 0)] * (16 - len(top))
        assert [
            (int(s), int(e) >> 1, int(e) & 1)
            for s, e in zip(rows["engager_s"][slot], rows["engager"][slot], strict=True)
        ] == top


@given(st.integers(0, 2**32), st.sampled_from([HOUR_MS, 30 * HOUR_MS, 9 * DAY_MS]), st.integers(-2, 700))
@settings(max_examples=60, deadline=None)
def test_derived_changes_exactly_when_foretold(seed: int, spread: int, ahead: int) -> None:
    rows = items.new_rows(3)
    apply(rows, random_deltas(seed, 5, 3, spread))
    as_of = T0 + ahead * 300_000
    before = items.derive(rows, 1, as_of)
    change = items.next_change_ms(rows, as_of)
    for slot, at in enumerate(change.tolist()):
        if at >= items.NEVER_MS:
            assert items.derive(rows, 1, as_of + 40 * DAY_MS)[slot] == before[slot]
        else:
            assert at > as_of
            assert items.derive(rows, 1, at - 1)[slot] == before[slot]


def test_a_count_leaves_the_hour_then_the_day_then_the_week() -> None:
    rows = items.new_rows(3)
    one = part(random_deltas(1, 1, 0, 0), np.arange(1), np.arange(0))
    apply(rows, replace(one, cell_fp=FPS[:1], count=np.array([5], np.int32), column=np.array([2], np.int8)))

    def windows(ms: int) -> list[int]:
        derived = items.derive(rows, 9, T0 + ms)[0]
        return [int(derived[name][2]) for name in ("h1", "h24", "d7")]

    assert windows(0) == [5, 5, 5]
    assert windows(HOUR_MS) == [0, 5, 5]
    assert windows(DAY_MS) == [0, 0, 5]
    assert windows(7 * DAY_MS) == [0, 0, 0]
    assert windows(-DAY_MS) == [0, 0, 0]


def test_withdrawn_engagers_are_not_shown_and_leave_no_hole() -> None:
    rows = items.new_rows(3)
    deltas = random_deltas(1, 0, 3, 0)
    who = np.array([10 << 1, 20 << 1 | 1, 30 << 1], np.uint64)
    apply(
        rows,
        replace(deltas, engager_fp=FPS[[0, 0, 0]], engager=who, engager_s=np.array([5, 6, 7], np.uint32)),
    )
    day = items.derive(rows, 1, T0)[0]["engagers"]
    assert day.tolist() == [30 << 16, 10 << 16] + [0] * 14


def test_layouts_fit() -> None:
    assert items.ITEM_ROW.itemsize == 1_176
    assert items.DERIVED.itemsize == 256
