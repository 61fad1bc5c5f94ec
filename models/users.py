"""User rows (2): one fixed-size row per user, a function of the user's records in offset order.

A batch is applied in one vectorised pass. However the stream is cut into batches, the bytes are the same:
windows and long decays are sums masked at the end, sessions follow a running maximum, and the rings advance
by counters kept in the row. docs/state.md states every rule in integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.columns import ActivityColumns
from models.effects import Effects, effects
from models.engagements import engage
from models.groups import Groups, group
from models.layout import opaque
from models.merge import UNDO_BIT, ItemLookup, Rows
from models.rings import add, advance
from models.tables import EPOCH_MS, LONG_WEIGHT
from models.user_row import D1, DAY_MS, H1, IDS, LONG, M5, RING, USER_ROW, new_rows
from models.verbs import Role, VerbTable

__all__ = ["USER_ROW", "Applied", "Plan", "apply", "apply_activities", "needs_items", "new_rows", "plan"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

SESSION_GAP_MS = 30 * 60_000

_IDS = opaque(USER_ROW, "ids")
_RINGS = ((M5, 1), (H1, 12), (D1, 288), (LONG, EPOCH_MS // M5.length_ms))


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch of n activities did.

    `duplicate` bool[n], in the batch's order. `users` int64[m]: slots whose rows changed, unique.
    `late`: good records beyond the day ring, `undone`: undo records. `effects`: as passed on to item deltas.
    `groups`: the good records, sorted by user; with `effects` it feeds seen pages and graph rows.
    """

    duplicate: Bools
    users: I64
    late: int
    undone: int
    effects: Effects
    groups: Groups


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a batch before any row changes. `engaged`: members of `groups` that enter the ring,
    with their group and the ring's counter at that moment (int64[e] each)."""

    columns: ActivityColumns
    verbs: VerbTable
    effects: Effects
    all: Groups
    groups: Groups
    duplicate: Bools
    engaged: I64
    engaged_group: I64
    engaged_number: I64


def apply_activities(
    rows: Rows, slots: I64, columns: ActivityColumns, verbs: VerbTable, items: ItemLookup
) -> Applied:
    """Apply n activities (offset order) to the rows at `slots` int64[n], in place."""
    return apply(rows, plan(rows, slots, columns, verbs), items)


def plan(rows: Rows, slots: I64, columns: ActivityColumns, verbs: VerbTable) -> Plan:
    """Sort, find duplicates and engagements; changes nothing. Apply it before the rows change otherwise."""
    effect, everyone = effects(columns, verbs), group(slots)
    repeated = _duplicates(rows, everyone, columns.activity_fp[everyone.order])
    duplicate, good = np.zeros(slots.size, np.bool_), everyone
    if repeated is not None:
        duplicate[everyone.order] = repeated
        good = everyone.keep(~repeated)
    role = effect.role[good.order]
    engages = (role >= Role.WEAK) & (role <= Role.NEGATIVE) & (verbs.affinity != 0)[effect.verb[good.order]]
    engaged = np.flatnonzero(engages)
    owner = good.group[engaged]
    before: I64 = (np.cumsum(engages) - engages)[good.starts]
    number = np.arange(engaged.size) - before[owner] + rows["engaged"][good.users][owner]
    return Plan(columns, verbs, effect, everyone, good, duplicate, engaged, owner, number)


def needs_items(rows: Rows, planned: Plan, items: ItemLookup) -> bool:
    """True when this batch would merge an item that the index does not know (yet): the shard then lets its
    item reader catch up with the end of the items topic before it calls `apply`."""
    number, owner = planned.engaged_number, planned.engaged_group
    full = np.flatnonzero(number % RING == RING - 1)
    if not full.size:
        return False
    last = np.full(planned.groups.users.size, -1)
    last[owner[full]] = number[full]  # ascending within a group: the last one stays
    entering = planned.groups.order[planned.engaged[number <= last[owner]]]
    fps = planned.columns.object_fp[entering]
    old = rows["ring_fp"][planned.groups.users[np.unique(owner[full])]]
    held = rows["engaged"][planned.groups.users[np.unique(owner[full])]] % RING
    return bool((items.lookup(np.concatenate([fps, old[np.arange(RING) < held[:, None]]])) < 0).any())


def apply(rows: Rows, planned: Plan, items: ItemLookup) -> Applied:
    """Apply a plan to the rows it was made from, in place."""
    _remember_ids(rows, planned)
    late = 0
    if planned.groups.slot.size:
        times, newest = _running_times(rows, planned)
        late = _windows(rows, planned, times, newest)
        _sessions(rows, planned, times, newest)
        _engage(rows, planned, items)
    undone = int(planned.effects.undo[planned.groups.order].sum()) if planned.effects.any_undo else 0
    return Applied(planned.duplicate, planned.all.users, late, undone, planned.effects, planned.groups)


def _duplicates(rows: Rows, groups: Groups, fp: U64) -> Bools | None:
    """bool[n] in sorted order: the fp is among this user's previous 16 records. None: no duplicates."""
    held = rows.view(_IDS)["ids"][groups.users].view(np.uint64).reshape(-1, IDS)
    hits = held[groups.group] == fp[:, None]
    ordered = np.sort(fp)
    within = bool((ordered[1:] == ordered[:-1]).any())
    if not within and not hits.any():
        return None
    records = rows["records"][groups.users][groups.group]
    number = records + groups.rank
    slot_number = records[:, None] - 1 - ((records[:, None] - 1 - np.arange(IDS)) % IDS)
    alive = (slot_number >= 0) & (slot_number >= number[:, None] - IDS)
    repeated: Bools = (alive & hits).any(axis=1)
    for back in range(1, min(IDS, fp.size - 1) + 1):
        repeated[back:] |= (fp[back:] == fp[:-back]) & (groups.slot[back:] == groups.slot[:-back])
    return repeated if repeated.any() else None


def _remember_ids(rows: Rows, planned: Plan) -> None:
    everyone = planned.all
    number = rows["records"][everyone.users][everyone.group] + everyone.rank
    last = np.flatnonzero(everyone.rank >= everyone.sizes[everyone.group] - IDS)
    fp = planned.columns.activity_fp[everyone.order]
    rows["ids"][everyone.slot[last], number[last] % IDS] = fp[last]
    rows["records"][everyone.users] += everyone.sizes


def _running_times(rows: Rows, planned: Plan) -> tuple[I64, I64]:
    """Event times int64[n] (sorted order) and the running maximum *before* each record; updates newest_ms."""
    groups = planned.groups
    times = planned.columns.event_ms[groups.order]
    base = rows["newest_ms"][groups.users]
    lift = groups.group << 44  # later groups lie above earlier ones, so one accumulate serves all
    running = times + lift
    running[groups.starts] = np.maximum(running[groups.starts], base + lift[groups.starts])
    running = np.maximum.accumulate(running) - lift
    newest = np.empty_like(running)
    newest[1:] = running[:-1]
    newest[groups.starts] = base
    advance((M5, H1, D1, LONG), rows, groups.users, base, running[groups.ends])
    rows["newest_ms"][groups.users] = running[groups.ends]
    return times, newest


def _windows(rows: Rows, planned: Plan, times: I64, newest: I64) -> int:
    """Rings and long decays; returns how many records were beyond the day ring when they came."""
    groups, effect = planned.groups, planned.effects
    role, bucket = effect.role[groups.order].astype(np.int64), effect.bucket[groups.order]
    counted = role <= Role.NEGATIVE
    now = (rows["newest_ms"][groups.users] // M5.length_ms)[groups.group]
    sign = np.where(effect.undo[groups.order], -1, 1) if effect.any_undo else np.ones_like(role)
    for ring, per in _RINGS:
        b, held = _held(bucket, now, per, ring.kept)
        which = _where(counted & held)
        value = sign[which]
        if ring is LONG:
            value = value * LONG_WEIGHT[(bucket[which] - b[which] * per) // 12]
        add(ring, rows, groups.slot[which], b[which], role[which], value)
    day, held = _held(bucket, now, 288, D1.kept)
    if effect.any_dwell:
        dwell = effect.dwell_s[groups.order]
        some = np.flatnonzero((dwell > 0) & held)
        add(D1, rows, groups.slot[some], day[some], np.full(some.size, 4), dwell[some])
    if held.all():
        return 0
    return int((counted & (day <= np.maximum(newest, times) // DAY_MS - D1.kept)).sum())


def _held(bucket: I64, now: I64, per: int, kept: int) -> tuple[I64, Bools]:
    """Buckets of `per` x 5 minutes, and whether the row's ring holds them."""
    if per == 1:
        return bucket, bucket > now - kept
    wider = bucket // per
    return wider, wider > now // per - kept


def _where(mask: Bools) -> Any:
    """An index for the true places; of all places (nearly always) one that copies nothing."""
    return slice(None) if mask.all() else np.flatnonzero(mask)


def _sessions(rows: Rows, planned: Plan, times: I64, newest: I64) -> None:
    groups = planned.groups
    verb = planned.columns.verb[groups.order]
    role = planned.verbs.role
    deeper = ((role == Role.WEAK) | (role == Role.STRONG))[verb]
    depth = np.cumsum(deeper)
    opens = times - newest > SESSION_GAP_MS
    last_open = np.maximum.reduceat(np.where(opens, np.arange(times.size), -1), groups.starts)
    fresh = last_open >= 0
    since = np.where(fresh, last_open, groups.starts)
    gained = depth[groups.ends] - depth[since] + deeper[since]
    kept = np.where(fresh, 0, rows["session_depth"][groups.users].astype(np.int64))
    rows["session_depth"][groups.users] = kept + gained
    started = rows["session_start_ms"][groups.users]
    rows["session_start_ms"][groups.users] = np.where(fresh, times[since], started)
    signal = np.maximum.reduceat(times * planned.verbs.makes_due[verb], groups.starts)
    rows["signal_ms"][groups.users] = np.maximum(rows["signal_ms"][groups.users], signal)


def _engage(rows: Rows, planned: Plan, items: ItemLookup) -> None:
    record = planned.groups.order[planned.engaged]
    act = planned.effects.verb[record]
    if planned.effects.any_undo:
        act = act | np.where(planned.effects.undo[record], UNDO_BIT, 0)
    entries = planned.columns.object_fp[record], planned.effects.at_ms[record] // 1_000, act
    number, owner = planned.engaged_number, planned.engaged_group
    engage(rows, planned.groups.users, owner, number, entries, items, planned.verbs)
