"""Engagement rings of user rows (2): the last 16 weak, strong and negative ones, merged when full."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.merge import Entries, ItemLookup, Rows, merge
from models.user_row import RING
from models.verbs import VerbTable

I64 = NDArray[np.int64]

RING_FIELDS = ("ring_fp", "ring_s", "ring_act")


def engage(
    rows: Rows,
    users: I64,
    owner: I64,
    number: I64,
    entries: tuple[NDArray[Any], ...],
    items: ItemLookup,
    verbs: VerbTable,
) -> None:
    """Enter e engagements into the rows at `users` int64[m] (slots), merging every ring that gets full.

    `owner` int64[e] into `users` and `number` int64[e] (the row's `engaged` counter), ascending; `entries`:
    object fp, time in s and act, [e] each.
    """
    if not number.size:
        return
    before = rows["engaged"][users].astype(np.int64)
    after = before + np.bincount(owner, minlength=users.size)
    if (after // RING > before // RING).any():
        _merge_full(rows, users, before, after, owner, number, entries, items, verbs)
    last = np.flatnonzero(number >= after[owner] - RING)
    slot, place = users[owner[last]], number[last] % RING
    for name, values in zip(RING_FIELDS, entries, strict=True):
        rows[name][slot, place] = values[last]
    rows["engaged"][users] = after


def _merge_full(
    rows: Rows,
    users: I64,
    before: I64,
    after: I64,
    owner: I64,
    number: I64,
    entries: tuple[NDArray[Any], ...],
    items: ItemLookup,
    verbs: VerbTable,
) -> None:
    """Lay out each complete ring of the batch, led by what the row's ring held, as `merge` wants them."""
    laps = after // RING - before // RING
    merging = np.flatnonzero(laps)
    merging = merging[np.argsort(-laps[merging], kind="stable")]
    lap_users = (laps[merging] > np.arange(laps.max())[:, None]).sum(axis=1)
    lap_start = np.cumsum(lap_users) - lap_users
    seat = np.full(users.size, -1)
    seat[merging] = np.arange(merging.size)
    lap = number // RING - (before // RING)[owner]
    member = np.flatnonzero(lap < laps[owner])
    cell = (lap_start[lap[member]] + seat[owner[member]]) * RING + number[member] % RING
    slots = users[merging]
    held_user, held_place = np.nonzero(np.arange(RING) < (before[merging] % RING)[:, None])
    rings = []
    for name, values in zip(RING_FIELDS, entries, strict=True):
        column = rows[name]
        ring = np.empty(int(lap_users.sum()) * RING, column.dtype)
        ring[cell] = values[member]
        ring[held_user * RING + held_place] = column[slots[held_user], held_place]
        rings.append(ring.reshape(-1, RING))
    merge(rows, slots, laps[merging], Entries(*rings), np.full(len(rings[0]), RING), items, verbs)
