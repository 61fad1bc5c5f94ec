"""User rows: any cut of a stream into batches gives the bytes of the plain model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_user import DAY_MS, HOUR_MS, T0, UNDO, VERBS, Items, PlainUser, columns_of

from models.columns import ActivityColumns
from models.graph import Graphs
from models.seen import SeenPages
from models.users import USER_ROW, Applied, apply_activities, needs_items, new_rows, plan
from models.verbs import Role

USERS = 4


class Shard:
    """Rows, seen pages and graphs of a few users."""

    def __init__(self, items: Items | None = None) -> None:
        self.rows, self.seen, self.graphs = new_rows(USERS), SeenPages(USERS), Graphs()
        self.items = items or Items()
        self.late = self.duplicates = 0

    def apply(self, columns: ActivityColumns) -> Applied:
        slots = np.array([int(k[5:]) for k in columns.keys], np.int64)
        applied = apply_activities(self.rows, slots, columns, VERBS, self.items)
        effects, groups = applied.effects, applied.groups
        shown = np.flatnonzero(effects.role[groups.order] == Role.EXPOSURE)
        record = groups.order[shown]
        day = effects.at_ms[record] // DAY_MS
        self.seen.apply(self.rows, groups.slot[shown], columns.object_fp[record], day, effects.undo[record])
        self.graphs.apply(columns, effects, groups, VERBS)
        self.late += applied.late
        self.duplicates += int(applied.duplicate.sum())
        return applied


def check(shard: Shard, plain: list[PlainUser]) -> None:
    for slot, user in enumerate(plain):
        for name, expected in user.row().items():
            np.testing.assert_array_equal(
                shard.rows[name][slot], expected, err_msg=f"user {slot}, field {name}"
            )
        assert shard.seen.entries(slot).tolist() == user.seen_entries()
        lists = zip(shard.graphs.get(slot).lists(), user.graph.values(), strict=True)
        for (edges, kinds), expected in lists:
            assert [
                (int(e) >> 16, int(k), int(e) & 0xFFFF) for e, k in zip(edges, kinds, strict=True)
            ] == expected
    assert shard.late == sum(u.late for u in plain)
    assert shard.duplicates == sum(u.duplicates for u in plain)


def run_plain(columns: ActivityColumns, items: Items | None = None) -> list[PlainUser]:
    plain = [PlainUser() for _ in range(USERS)]
    for i, key in enumerate(columns.keys):
        plain[int(key[5:])].apply(columns, i, items or Items())
    return plain


VERB_SHARES = (0.35, 0.2, 0.15, 0.05, 0.1, 0.05, 0.03, 0.02, 0.05)
MOSTLY_SHOWN = (0.97, 0.01, 0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 0.0)


def random_stream(
    seed: int, n: int, spread_ms: int, ids: int, objects: int, verbs: tuple[float, ...] = VERB_SHARES
) -> ActivityColumns:
    """Skewed users, jittered times that move on by `spread_ms` in all, repeated ids, undos, graph verbs."""
    rng = np.random.default_rng(seed)
    now = T0 + np.sort(rng.integers(0, spread_ms, n))
    records = []
    for at in now.tolist():
        late = rng.choice(
            [0, 60_000, HOUR_MS, DAY_MS, 9 * DAY_MS, 300 * DAY_MS], p=[0.7, 0.1, 0.1, 0.05, 0.04, 0.01]
        )
        verb = int(rng.choice(9, p=verbs))
        record = {
            "user": int(rng.choice(USERS, p=[0.6, 0.3, 0.08, 0.02])),
            "id": int(rng.integers(1, ids)),
            "at": at - int(late),
            "verb": verb,
            "object": int(rng.integers(1, objects)),
            "target": int(rng.integers(0, 3)),
            "dwell_ms": int(rng.choice([0, 900, 2500, 9_000_000])),
        }
        if verb == UNDO:
            record["undone_verb"] = int(rng.choice([0, 1, 2, 3, 5, 6]))
            record["undone_ms"] = record["at"] - int(rng.choice([0, -5000, 60_000, 8 * DAY_MS, record["at"]]))
        records.append(record)
    return columns_of(records)


streams = st.builds(
    random_stream,
    seed=st.integers(0, 2**32),
    n=st.integers(1, 400),
    spread_ms=st.sampled_from([1, 60_000, HOUR_MS, DAY_MS, 20 * DAY_MS, 600 * DAY_MS]),
    ids=st.sampled_from([20, 500, 1 << 40]),
    objects=st.sampled_from([5, 80, 2000]),
)


@given(streams, st.data())
@settings(max_examples=120, deadline=None)
def test_any_cut_gives_the_bytes_of_the_plain_model(columns: ActivityColumns, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(columns)), max_size=8)))
    shard = Shard()
    for start, stop in zip([0, *cuts], [*cuts, len(columns)], strict=True):
        if stop > start:
            shard.apply(columns.cut(start, stop))
    check(shard, run_plain(columns))


def test_one_record_at_a_time_gives_the_same_bytes() -> None:
    columns = random_stream(7, 600, 3 * DAY_MS, 300, 700)
    whole, single = Shard(), Shard()
    whole.apply(columns)
    for i in range(len(columns)):
        single.apply(columns.cut(i, i + 1))
    assert whole.rows.tobytes() == single.rows.tobytes()
    check(single, run_plain(columns))


def test_a_hot_user_beyond_512_seen_items() -> None:
    for seed, slice_records in enumerate((120, 700, 3_000)):
        columns = random_stream(seed, 3_000, 2 * HOUR_MS, 1 << 40, 900, MOSTLY_SHOWN)
        shard = Shard()
        for part in columns.slices(slice_records):
            shard.apply(part)
        plain = run_plain(columns)
        assert plain[0].shown > 512
        check(shard, plain)


def test_a_retry_counts_once_and_only_within_16_records() -> None:
    records = [{"user": 0, "id": n, "at": T0, "verb": 1} for n in [*range(1, 17), 1, *range(20, 36), 1]]
    shard = Shard()
    applied = shard.apply(columns_of(records))
    assert np.flatnonzero(applied.duplicate).tolist() == [16]
    assert shard.rows["m5"][0].sum() == len(records) - 1


def test_an_unfilled_place_of_the_id_ring_is_no_record() -> None:
    assert not Shard().apply(columns_of([{"user": 0, "id": 0, "at": T0, "verb": 1}])).duplicate.any()


def test_needs_items_only_when_an_unknown_item_would_be_merged() -> None:
    shard = Shard()
    shard.apply(columns_of([{"user": 0, "id": n + 1, "at": T0, "verb": 1} for n in range(15)]))
    slots = np.zeros(1, np.int64)

    def needed(verb: int, item: int) -> bool:
        columns = columns_of([{"user": 0, "id": 99, "at": T0, "verb": verb, "object": item}])
        return needs_items(shard.rows, plan(shard.rows, slots, columns, VERBS), shard.items)

    assert needed(verb=1, item=10**6)
    assert not needed(verb=1, item=3)
    assert not needed(verb=0, item=10**6)
    shard.rows["ring_fp"][0, 4] = 10**6
    assert needed(verb=1, item=3)


def test_a_verb_without_affinity_is_no_engagement_and_waits_for_no_item() -> None:
    shard, opened = Shard(), 8
    visits = [{"user": 0, "id": n + 1, "at": T0, "verb": opened, "object": 10**6} for n in range(16)]
    columns = columns_of(visits)
    assert not needs_items(shard.rows, plan(shard.rows, np.zeros(16, np.int64), columns, VERBS), shard.items)
    shard.apply(columns)
    row = shard.rows[0]
    assert (row["engaged"], row["session_depth"], row["d1"].sum()) == (0, 16, 16)


def test_a_time_that_decode_should_have_refused_is_refused() -> None:
    with pytest.raises(ValueError, match="dead-letter"):
        Shard().apply(columns_of([{"user": 0, "id": 1, "at": 1 << 43, "verb": 1}]))


def test_the_row_fits() -> None:
    assert USER_ROW.itemsize == 1_488


def test_small_cells_wrap_so_that_undo_and_cuts_stay_exact() -> None:
    many, undone = 33_000, 400
    seen = [{"user": 0, "id": n + 1, "verb": 0, "at": T0} for n in range(many)]
    back = {"user": 0, "verb": UNDO, "at": T0, "undone_verb": 0, "undone_ms": T0}
    undo = [back | {"id": many + n + 1} for n in range(undone)]
    records = [*undo, *seen]  # an undo may come first
    for size in (many + undone, 4_000):
        shard = Shard()
        for columns in columns_of(records).slices(size):
            shard.apply(columns)
        assert shard.rows["m5"][0].sum() == shard.rows["h1"][0].sum() == many - undone
        shard.apply(columns_of([seen[0] | {"id": 10**6 + n} for n in range(200)]))
        total = many - undone + 200
        assert total > 32_767
        assert shard.rows["m5"][0].sum() == shard.rows["h1"][0].sum() == total - (1 << 16)
        assert shard.rows["d1"][0].sum() == total
