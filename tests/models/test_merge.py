"""Merges: many users and laps at once give what each gives alone; unfinished rings merge on copies."""

from __future__ import annotations

import numpy as np
from plain_user import HOUR_MS, T0, VERBS, Items, PlainUser, columns_of

from models.merge import AFFINITY_MAX, merge_unfinished
from models.tables import DECAY_POSITIVE
from models.users import apply_activities, new_rows


def engage(rows: np.ndarray, records: list[dict[str, int]], items: Items | None = None) -> None:
    columns = columns_of([{"id": n + r["at"]} | r for n, r in enumerate(records)])
    slots = np.array([r["user"] for r in records], np.int64)
    apply_activities(rows, slots, columns, VERBS, items or Items())


def likes(count: int, item: int = 1, user: int = 0, at: int = T0) -> list[dict[str, int]]:
    return [{"user": user, "at": at, "verb": 2, "object": item}] * count


def test_the_unfinished_ring_counts_on_a_copy_only() -> None:
    rows = new_rows(2)
    engage(rows, likes(3))
    stored = rows.tobytes()
    copy = rows.copy()
    merge_unfinished(copy, Items(), VERBS)
    author = Items.one(1)[0]
    assert copy["author_fp"][0, 0] == author
    assert copy["author_pos"][0, 0] == 3 * 8 * 256
    assert rows.tobytes() == stored
    assert copy[1] == rows[1]


def test_unfinished_equals_the_plain_model() -> None:
    rng = np.random.default_rng(4)
    rows, plain = new_rows(40), [PlainUser() for _ in range(40)]
    records = [
        {
            "user": int(rng.integers(0, 40)),
            "at": T0 + n * HOUR_MS,
            "verb": int(rng.integers(1, 4)),
            "object": int(rng.integers(1, 70)),
        }
        for n in range(900)
    ]
    engage(rows, records)
    columns = columns_of([{"id": n + r["at"]} | r for n, r in enumerate(records)])
    for i, record in enumerate(records):
        plain[record["user"]].apply(columns, i, Items())
    merge_unfinished(rows, Items(), VERBS)
    for slot, user in enumerate(plain):
        if user.engaged % 16:
            user.merge(user.ring[-(user.engaged % 16) :], Items())
        for name, expected in user.row().items():
            np.testing.assert_array_equal(rows[name][slot], expected, err_msg=f"user {slot}, {name}")


def test_many_more_users_than_one_pass_takes() -> None:
    users = 1_300
    rows = new_rows(users)
    engage(rows, [r for user in range(users) for r in likes(17, item=user % 60 + 1, user=user)])
    for user in (0, 511, 512, 1_023, 1_024, 1_299):
        assert rows["author_fp"][user, 0] == Items.one(user % 60 + 1)[0]
        assert rows["author_pos"][user, 0] == 16 * 8 * 256


def test_affinity_halves_in_30_days() -> None:
    rows = new_rows(1)
    engage(rows, likes(16))
    engage(rows, likes(16, item=2, at=T0 + 720 * HOUR_MS))
    weights = dict(zip(rows["author_fp"][0].tolist(), rows["author_pos"][0].tolist(), strict=True))
    assert weights[Items.one(1)[0]] * 2 == weights[Items.one(2)[0]]


def test_an_old_engagement_counts_by_its_age() -> None:
    rows = new_rows(1)
    engage(rows, [*likes(15, item=2), *likes(1, item=1, at=T0 - 100 * HOUR_MS)])
    weights = dict(zip(rows["author_fp"][0].tolist(), rows["author_pos"][0].tolist(), strict=True))
    assert weights[Items.one(1)[0]] == 8 * 256 * int(DECAY_POSITIVE[100]) >> 16


def test_unknown_items_leave_affinities_alone() -> None:
    rows = new_rows(1)
    engage(rows, likes(16, item=10**6))
    assert not rows["author_fp"].any()
    assert rows["engaged"][0] == 16
    assert rows["merged_s"][0] == T0 // 1000


def test_affinities_stop_at_their_cap() -> None:
    rows = new_rows(1)
    rows["author_fp"][0, 0] = Items.one(1)[0]
    rows["author_pos"][0, 0] = AFFINITY_MAX
    rows["merged_s"] = T0 // 1000
    engage(rows, likes(16))
    assert rows["author_pos"][0, 0] == AFFINITY_MAX
