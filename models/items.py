"""Item rows (4): sums and semilattices of deltas, so that order and grouping of arrival never matter.

The owner of an item keeps its rings; all other workers get the derived record, made at a tick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.effects import BUCKET_5M_MS
from models.groups import Groups, group, run_starts
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
    changed = [np.empty(0, np.int64)]
    if cell_slots.size:
        changed.append(_count(rows, group(cell_slots), deltas))
    if engager_slots.size:
        changed.append(_engage(rows, group(engager_slots), deltas))
    slots = np.sort(np.concatenate(changed))
    return slots[run_starts(slots)]


def _count(rows: Rows, cells: Groups, deltas: Deltas) -> I64:
    """Cells side by side that are one row's; returns the rows."""
    users, slots, member = cells.users, cells.slot, cells.group
    bucket, column = deltas.bucket[cells.order].astype(np.int64), deltas.column[cells.order].astype(np.int64)
    count = deltas.count[cells.order].astype(np.int64)
    before = rows["newest_ms"][users]
    after = np.maximum(before, np.maximum.reduceat(bucket, cells.starts) * BUCKET_5M_MS)
    advance((M5, H1, D1, EXAMINED, LONG), rows, users, before, after)
    rows["newest_ms"][users] = after
    now = (after // BUCKET_5M_MS)[member]
    weighed = column == EXAMINED_COLUMN
    if weighed.any():
        held = np.flatnonzero(weighed & (bucket // 288 > now // 288 - EXAMINED.kept))
        add(EXAMINED, rows, slots[held], bucket[held] // 288, 0 * held, count[held])
        plain = np.flatnonzero(~weighed)
        slots, bucket, column, count = slots[plain], bucket[plain], column[plain], count[plain]
        now, member = now[plain], member[plain]
    for ring, per in ((M5, 1), (H1, 12), (D1, 288)):
        wider = bucket // per
        inside = np.flatnonzero(wider > now // per - ring.kept)
        add(ring, rows, slots[inside], wider[inside], column[inside], count[inside])
    epoch, into = np.divmod(bucket, EPOCH_MS // BUCKET_5M_MS)
    inside = np.flatnonzero(epoch > now // (EPOCH_MS // BUCKET_5M_MS) - LONG.kept)
    weight = LONG_WEIGHT[into[inside] // 12] * count[inside]
    add(LONG, rows, slots[inside], epoch[inside], column[inside], weight)
    _first_and_last(rows, users, member, bucket, column)
    return users


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


def _engage(rows: Rows, news: Groups, deltas: Deltas) -> I64:
    """Each user's largest (time, withdrawn), of these the 16 largest by (time, user); returns the rows."""
    slots = news.users
    owner = np.concatenate([np.repeat(np.arange(slots.size), ENGAGERS), news.group])
    who = np.concatenate([rows["engager"][slots].ravel(), deltas.engager[news.order]])
    when = np.concatenate([rows["engager_s"][slots].ravel(), deltas.engager_s[news.order]]).astype(np.int64)
    some = np.flatnonzero(who | when.view(np.uint64))
    if not some.size:
        return slots
    owner, who, when = owner[some], who[some], when[some]
    order = _owners_together(owner, np.argsort(who >> np.uint64(1)))
    owner, user = owner[order], who[order] >> np.uint64(1)
    starts = np.flatnonzero(np.r_[True, (owner[1:] != owner[:-1]) | (user[1:] != user[:-1])])
    last = np.maximum.reduceat((when[order] << 1) | (who[order] & np.uint64(1)).view(np.int64), starts)
    owner, user = owner[starts], user[starts]
    oldest_first = np.argsort(last >> 1, kind="stable")  # and, of one time, by user
    order = _owners_together(owner, oldest_first[::-1])
    owner = owner[order]
    rank = np.arange(owner.size) - np.searchsorted(owner, np.arange(slots.size))[owner]
    stay = np.flatnonzero(rank < ENGAGERS)
    owner, rank, chosen = owner[stay], rank[stay], order[stay]
    kept = np.zeros((slots.size, ENGAGERS), np.uint64), np.zeros((slots.size, ENGAGERS), np.uint32)
    kept[0][owner, rank] = (user[chosen] << np.uint64(1)) | (last[chosen].view(np.uint64) & np.uint64(1))
    kept[1][owner, rank] = last[chosen] >> 1
    rows["engager"][slots], rows["engager_s"][slots] = kept
    return slots


def _owners_together(owner: I64, order: I64) -> I64:
    """`order`, places in `owner`, by owner; of one owner as they stand in it."""
    return order[group(owner[order]).order]


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
