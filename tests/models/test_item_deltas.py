"""Item deltas: sums per item, bucket and column; one message per partition; broken ones are refused."""

from __future__ import annotations

from collections import Counter
from math import log2

import numpy as np
import pytest
from plain_user import DAY_MS, T0, UNDO, VERBS, columns_of

from models.effects import effects
from models.examination import EXAMINATION, UNIT
from models.fingerprint import fp64
from models.item_deltas import EXAMINED, MAGIC, ItemDeltas, decode, position_fp
from models.verbs import Role


def add(deltas: ItemDeltas, records: list[dict[str, int]], duplicate: list[int] | None = None) -> None:
    columns = columns_of(records)
    mask = np.zeros(len(records), np.bool_)
    mask[duplicate or []] = True
    users = np.array([r["user"] + 1000 for r in records], np.uint64)
    deltas.add(columns, effects(columns, VERBS), mask, users)


def cells(message: bytes) -> Counter[tuple[int, int, int]]:
    decoded = decode(message)
    found: Counter[tuple[int, int, int]] = Counter()
    for fp, bucket, column, count in zip(
        decoded.cell_fp, decoded.bucket, decoded.column, decoded.count, strict=True
    ):
        key = (int(fp), int(bucket), int(column))
        assert key not in found, "a cell is sent once"
        found[key] = int(count)
    return found


def weight_by_definition(place: int) -> int:
    """The discount of DCG over its mean of 20 places, in sixteenths; 1 for an unknown place."""
    discount = [1 / log2(n + 2) for n in range(100)]
    return UNIT if place < 0 else round(UNIT * discount[min(place, 99)] * 20 / sum(discount[:20]))


def test_weights_of_places_are_the_discount_of_dcg() -> None:
    assert EXAMINATION.tolist() == [weight_by_definition(place) for place in [*range(100), -1]]


@pytest.mark.parametrize(("place", "weight"), [(0, 45), (5, 16), (99, 7), (30_000, 7), (-1, 16)])
def test_an_impression_counts_as_much_as_its_place_is_looked_at(place: int, weight: int) -> None:
    shown = {"user": 0, "at": T0, "verb": 0, "object": 8, "position": place}
    undo = shown | {"verb": UNDO, "undone_verb": 0, "undone_ms": T0}
    bucket, deltas = T0 // 300_000, ItemDeltas()

    def drained() -> dict[tuple[int, int], int]:
        return {key[1:]: n for key, n in cells(deltas.drain(1, 0, 0, 0)[0]).items() if key[0] == 8 and n}

    add(deltas, [shown, shown, shown | {"at": T0 + 300_000}, undo])
    assert drained() == {(bucket, 0): 1, (bucket, 5): weight, (bucket + 1, 0): 1, (bucket + 1, 5): weight}
    add(deltas, [shown, undo, undo])  # more is withdrawn than was counted since the last checkpoint
    assert drained() == {(bucket, 0): -1, (bucket, 5): -weight}
    add(deltas, [shown, undo])
    assert drained() == {}


def test_sums_by_item_bucket_and_column() -> None:
    deltas = ItemDeltas()
    add(deltas, [{"user": 0, "at": T0, "verb": 1, "object": 8, "dwell_ms": 2_900}] * 2, duplicate=[1])
    add(
        deltas,
        [
            {"user": 0, "at": T0, "verb": 1, "object": 8},
            {"user": 0, "at": T0 + 300_000, "verb": 1, "object": 8},
        ],
    )
    bucket = T0 // 300_000
    assert cells(deltas.drain(1, 0, 0, 0)[0]) == {(8, bucket, 1): 2, (8, bucket, 4): 2, (8, bucket + 1, 1): 1}
    assert not cells(deltas.drain(1, 0, 0, 0)[0])


def test_positions_count_exposures_and_engagements_but_nothing_negative() -> None:
    deltas = ItemDeltas()
    add(
        deltas,
        [
            {"user": 0, "at": T0, "verb": v, "object": 8, "position": p}
            for v in range(4)
            for p in (3, 100, -1)
        ],
    )
    found = cells(deltas.drain(1, 0, 0, 0)[0])
    positions = {key: n for key, n in found.items() if key[0] != 8}
    assert positions == {(position_fp(3), T0 // 300_000, column): 1 for column in range(3)}
    assert position_fp(3) == fp64(b"\0position:3")


def test_undo_subtracts_at_its_time_and_withdraws_the_engager() -> None:
    deltas = ItemDeltas()
    undo = {"user": 7, "at": T0, "verb": UNDO, "undone_verb": 2, "undone_ms": T0 - DAY_MS, "object": 8}
    add(deltas, [undo, undo | {"undone_ms": 0}, undo | {"undone_verb": 5}])
    decoded = decode(deltas.drain(1, 0, 0, 0)[0])
    assert (decoded.bucket.tolist(), decoded.column.tolist(), decoded.count.tolist()) == (
        [(T0 - DAY_MS) // 300_000],
        [2],
        [-1],
    )
    assert decoded.engager.tolist() == [1007 << 1 | 1]
    assert decoded.engager_s.tolist() == [(T0 - DAY_MS) // 1000]


def test_a_cell_that_sums_to_zero_is_still_sent() -> None:
    deltas = ItemDeltas()
    add(deltas, [{"user": 0, "at": T0, "verb": 1, "object": 8}])
    add(deltas, [{"user": 0, "at": T0, "verb": UNDO, "undone_verb": 1, "undone_ms": T0, "object": 8}])
    assert list(decode(deltas.drain(1, 0, 0, 0)[0]).count) == [0]


def test_every_partition_gets_a_message_with_its_items_and_the_watermark() -> None:
    deltas = ItemDeltas()
    add(deltas, [{"user": 0, "at": T0, "verb": 2, "object": n} for n in (4, 5, 8)])
    messages = deltas.drain(3, 6, T0, 77)
    assert sorted(messages) == [0, 1, 2]
    for partition, message in messages.items():
        decoded = decode(message)
        assert (decoded.sender, decoded.watermark_ms, decoded.position) == (6, T0, 77)
        assert set(decoded.cell_fp.tolist()) == set(decoded.engager_fp.tolist())
        assert set(decoded.cell_fp.tolist()) == {n for n in (4, 5, 8) if n % 3 == partition}


def test_many_random_activities_sum_like_a_counter() -> None:
    rng = np.random.default_rng(3)
    records = [
        {
            "user": 0,
            "at": T0 + int(rng.integers(0, 10**7)),
            "verb": int(rng.integers(0, 4)),
            "object": int(rng.integers(1, 50)),
            "position": int(rng.integers(-1, 30)) if rng.random() < 0.5 else 20_000,
        }
        for _ in range(2_000)
    ]
    deltas = ItemDeltas()
    for start in range(0, 2_000, 300):
        add(deltas, records[start : start + 300])
    want = Counter[tuple[int, int, int]]()
    for r in records:
        bucket, role, place = r["at"] // 300_000, int(VERBS.role[r["verb"]]), r["position"]
        want[r["object"], bucket, role] += 1
        if role == Role.EXPOSURE:
            want[r["object"], bucket, EXAMINED] += weight_by_definition(place)
        if role <= Role.STRONG and 0 <= place < 100:
            want[position_fp(place), bucket, role] += 1
    assert sum((cells(m) for m in deltas.drain(4, 0, 0, 0).values()), Counter()) == want


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda m: m[:10], "cut short"),
        (lambda m: b"XXXX" + m[4:], "replay"),
        (lambda m: m[:-1], "broken"),
        (lambda m: m + b"x", "broken"),
        (lambda m: m[:24] + b"\xff\xff\xff\xff" + m[28:], "broken"),
        (lambda m: m[:-1] + b"\x06", "column"),
        (lambda m: b"FRD0" + m[4:], "replay"),
    ],
)
def test_broken_messages_are_refused(change, what: str) -> None:  # type: ignore[no-untyped-def]
    deltas = ItemDeltas()
    add(deltas, [{"user": 0, "at": T0, "verb": 1, "object": 8}])
    message = deltas.drain(1, 0, 0, 0)[0]
    assert message.startswith(MAGIC)
    with pytest.raises(ValueError, match=what):
        decode(change(message))
