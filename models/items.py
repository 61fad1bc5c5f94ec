"""Item rows (4): sums and semilattices of deltas, so that order and grouping of arrival never matter.

The owner of an item keeps its rings; all other workers get the derived record, made at a tick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.effects import BUCKET_5M_MS
from models.rings import Ring, add, advance
from models.tables import EPOCH_MS, LONG_WEIGHT

if TYPE_CHECKING:
    from models.item_deltas import Deltas

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Rows = NDArray[np.void]

COLUMNS = 5
DWELL, EXAMINED_COLUMN = 4, 5
ENGAGERS = 16
NEVER_MS = np.int64(1) << 62
DAY_S = 86_400

ITEM_ROW = np.dtype(
    [
        ("newest_ms", "<i8"),
        ("first_s", "<u4"),
        ("last_s", "<u4"),
        ("m5", "<i4", (12, COLUMNS)),
        ("h1", "<i4", (24, COLUMNS)),
        ("d1", "<i4", (7, COLUMNS)),
        ("examined", "<i4", (7, 1)),
        ("long", "<i8", (2, COLUMNS)),
        ("engager", "<u8", (ENGAGERS,)),
        ("engager_s", "<u4", (ENGAGERS,)),
    ]
)
"""1,176 bytes; docs/state.md lists every field."""

DERIVED = np.dtype(
    [
        ("tick", "<i8"),
        ("h1", "<i4", (COLUMNS,)),
        ("h24", "<i4", (COLUMNS,)),
        ("d7", "<i4", (COLUMNS,)),
        ("epoch", "<i4"),
        ("long", "<i8", (COLUMNS,)),
        ("first_s", "<u4"),
        ("last_s", "<u4"),
        ("engagers", "<u8", (ENGAGERS,)),
        ("examined", "<i8"),
    ]
)
"""256 bytes. `h1`, `h24`, `d7`: counts per role and dwell seconds in the last hour, day and week. `long`:
decayed sums as of the start of `epoch` (240 days each). `engagers`: `fp48 << 16 | day`, newest first,
0 = none. `examined`: impressions of the last week, each weighted by its place (models/examination.py).
"""

M5 = Ring(ITEM_ROW, "m5", BUCKET_5M_MS)
H1 = Ring(ITEM_ROW, "h1", 3_600_000)
D1 = Ring(ITEM_ROW, "d1", 86_400_000)
EXAMINED = Ring(ITEM_ROW, "examined", 86_400_000)
LONG = Ring(ITEM_ROW, "long", EPOCH_MS)
WINDOWS = (("h1", M5), ("h24", H1), ("d7", D1))


def new_rows(count: int) -> NDArray[np.void]:
    """ITEM_ROW[count] of items nobody touched yet: all zeros."""
    return np.zeros(count, ITEM_ROW)


def apply_deltas(rows: Rows, cell_slots: I64, engager_slots: I64, deltas: Deltas) -> I64:
    """Apply one message to rows in place; slots are the rows of `deltas.cell_fp` and `deltas.engager_fp`.

    Returns the slots whose rows may have changed (int64, unique).
    """
    if cell_slots.size:
        _count(rows, cell_slots, deltas.bucket.astype(np.int64), deltas.column.astype(np.int64), deltas.count)
    if engager_slots.size:
        _engage(rows, engager_slots, deltas.engager, deltas.engager_s)
    return np.unique(np.concatenate([cell_slots, engager_slots]))


def _count(rows: Rows, slots: I64, bucket: I64, column: I64, count: NDArray[np.int32]) -> None:
    users, member = np.unique(slots, return_inverse=True)
    before = rows["newest_ms"][users]
    after = before.copy()
    np.maximum.at(after, member, bucket * BUCKET_5M_MS)
    advance((M5, H1, D1, EXAMINED, LONG), rows, users, before, after)
    rows["newest_ms"][users] = after
    now = after[member] // BUCKET_5M_MS
    weighed = column == EXAMINED_COLUMN
    if weighed.any():
        held = np.flatnonzero(weighed & (bucket // 288 > now // 288 - EXAMINED.kept))
        add(EXAMINED, rows, slots[held], bucket[held] // 288, 0 * held, count[held].astype(np.int64))
        slots, bucket, column, count, now, member = (
            part[~weighed] for part in (slots, bucket, column, count, now, member)
        )
    for ring, per in ((M5, 1), (H1, 12), (D1, 288)):
        inside = np.flatnonzero(bucket // per > now // per - ring.kept)
        add(ring, rows, slots[inside], bucket[inside] // per, column[inside], count[inside].astype(np.int64))
    epoch, into = np.divmod(bucket, EPOCH_MS // BUCKET_5M_MS)
    inside = np.flatnonzero(epoch > now // (EPOCH_MS // BUCKET_5M_MS) - LONG.kept)
    weight = LONG_WEIGHT[into[inside] // 12] * count[inside]
    add(LONG, rows, slots[inside], epoch[inside], column[inside], weight)
    _first_and_last(rows, users, member, bucket, column)


def _first_and_last(rows: Rows, users: I64, member: I64, bucket: I64, column: I64) -> None:
    engaging = np.flatnonzero((column == 1) | (column == 2))
    if not engaging.size:
        return
    start_s = bucket[engaging] * (BUCKET_5M_MS // 1_000)
    first = rows["first_s"][users].astype(np.int64)
    first[first == 0] = np.iinfo(np.int64).max
    last = rows["last_s"][users].astype(np.int64)
    np.minimum.at(first, member[engaging], start_s)
    np.maximum.at(last, member[engaging], start_s)
    rows["first_s"][users] = np.where(first == np.iinfo(np.int64).max, 0, first)
    rows["last_s"][users] = last


def _engage(rows: Rows, slots: I64, engager: U64, engager_s: NDArray[np.uint32]) -> None:
    """Each user's largest (time, withdrawn), of these the 16 largest by (time, user)."""
    users, member = np.unique(slots, return_inverse=True)
    owner = np.concatenate([np.repeat(np.arange(users.size), ENGAGERS), member])
    who = np.concatenate([rows["engager"][users].ravel(), engager])
    when = np.concatenate([rows["engager_s"][users].ravel(), engager_s]).astype(np.int64)
    some = np.flatnonzero(who | when.astype(np.uint64))
    owner, who, when = owner[some], who[some], when[some]
    order = np.lexsort((who & np.uint64(1), when, who >> np.uint64(1), owner))
    owner, who, when = owner[order], who[order], when[order]
    final = np.ones(owner.size, np.bool_)
    final[:-1] = (owner[1:] != owner[:-1]) | (who[1:] >> np.uint64(1) != who[:-1] >> np.uint64(1))
    owner, who, when = owner[final], who[final], when[final]
    order = np.lexsort((~who, -when, owner))
    owner, who, when = owner[order], who[order], when[order]
    rank = np.arange(owner.size) - np.searchsorted(owner, owner)
    stay = rank < ENGAGERS
    kept = np.zeros((users.size, ENGAGERS), np.uint64), np.zeros((users.size, ENGAGERS), np.uint32)
    kept[0][owner[stay], rank[stay]] = who[stay]
    kept[1][owner[stay], rank[stay]] = when[stay]
    rows["engager"][users], rows["engager_s"][users] = kept


def derive(rows: Rows, tick: int, as_of_ms: int) -> NDArray[np.void]:
    """DERIVED[m] of ITEM_ROW[m] as of `as_of_ms`; `rows` is not changed."""
    out = np.zeros(rows.size, DERIVED)
    out["tick"] = tick
    newest = rows["newest_ms"]
    for name, ring in WINDOWS:
        now = np.full(rows.size, as_of_ms // ring.length_ms)
        out[name] = ring.masked(rows, newest // ring.length_ms, now, ring.kept).sum(axis=1)
    today = np.full(rows.size, as_of_ms // EXAMINED.length_ms)
    out["examined"] = EXAMINED.masked(rows, newest // EXAMINED.length_ms, today, 7).sum(axis=(1, 2))
    epoch = newest // EPOCH_MS
    out["epoch"] = epoch
    row = np.arange(rows.size)
    out["long"] = rows["long"][row, epoch % 2] + (rows["long"][row, (epoch + 1) % 2] >> 8)
    out["first_s"], out["last_s"] = rows["first_s"], rows["last_s"]
    day = (rows["engager_s"] // DAY_S).astype(np.uint64)
    there = (rows["engager"] & np.uint64(1)) == 0
    edges = np.where(there, (rows["engager"] >> np.uint64(1)) << np.uint64(16) | day, 0)
    edges[rows["engager"] == 0] = 0
    first = np.argsort(edges == 0, axis=1, kind="stable")  # withdrawn ones leave no hole
    out["engagers"] = np.take_along_axis(edges, first, axis=1)
    return out


def next_change_ms(rows: Rows, as_of_ms: int) -> I64:
    """int64[m]: when after `as_of_ms` `derive` will first give another result although no delta came:
    a bucket with a count leaves its window (or, for one in the future, enters it). NEVER_MS: none."""
    soonest = np.full(rows.size, NEVER_MS)
    for ring in (M5, H1, D1, EXAMINED):
        newest = (rows["newest_ms"] // ring.length_ms)[:, None]
        held = newest - (newest - np.arange(ring.kept)) % ring.kept
        begins, ends = held * ring.length_ms, (held + ring.kept) * ring.length_ms
        change = np.where(begins > as_of_ms, begins, np.where(ends > as_of_ms, ends, NEVER_MS))
        filled = (rows[ring.name] != 0).any(axis=2)
        soonest = np.minimum(soonest, np.where(filled, change, NEVER_MS).min(axis=1))
    return soonest
