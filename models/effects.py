"""What each activity does (2, 3), undo included: computed once per batch, used by rows and item deltas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.columns import ActivityColumns
from models.verbs import Role, VerbTable

I64 = NDArray[np.int64]

BUCKET_5M_MS = 300_000
DWELL_S_MAX = 3_600
EVENT_MS_MAX = 1_000 << 32
"""Rows hold seconds in 32 bits (until 2106)."""


@dataclass(frozen=True, slots=True)
class Effects:
    """n records, in the order of their columns.

    `verb`, `role`: of the activity itself or, for an undo, of what it withdraws (role <= GRAPH). `undo` says
    which. `at_ms`: event time, for an undo min(undone_ms, event_ms). `bucket`: at_ms // 300,000.
    `dwell_s`: min(dwell_ms // 1000, 3,600), 0 for undo and graph. `any_undo`, `any_dwell` spare passes.
    """

    verb: NDArray[np.int16]
    role: NDArray[np.int8]
    undo: NDArray[np.bool_]
    at_ms: I64
    bucket: I64
    dwell_s: I64
    any_undo: bool
    any_dwell: bool


def effects(columns: ActivityColumns, verbs: VerbTable) -> Effects:
    """Resolve undo and dwell.

    Raises ValueError for a verb code outside the table or a time outside 0..2^32 s: decode refuses those.
    """
    if not len(columns):
        raise ValueError("no activities; skip empty batches")
    _check(columns, verbs)
    verb, at_ms = columns.verb, columns.event_ms
    role = verbs.role[verb]
    undo = role == Role.UNDO
    any_undo = bool(undo.any())
    if any_undo:
        verb = np.where(undo, columns.undone_verb, verb)
        role = verbs.role[verb]
        at_ms = np.where(undo, np.minimum(np.maximum(columns.undone_ms, 0), at_ms), at_ms)
    any_dwell = bool(columns.dwell_ms.max() >= 1_000)
    dwell_s = columns.dwell_ms
    if any_dwell:
        dwell_s = np.minimum(np.maximum(columns.dwell_ms // 1_000, 0), DWELL_S_MAX)
        dwell_s[undo | (role > Role.NEGATIVE)] = 0
    return Effects(verb, role, undo, at_ms, at_ms // BUCKET_5M_MS, dwell_s, any_undo, any_dwell)


def _check(columns: ActivityColumns, verbs: VerbTable) -> None:
    # As unsigned numbers negative ones are huge: one look at the maximum finds both.
    if columns.event_ms.view(np.uint64).max() >= EVENT_MS_MAX:
        raise ValueError(f"an event time is outside 0..{EVENT_MS_MAX - 1} ms; decode must dead-letter it")
    if columns.verb.view(np.uint16).max() >= len(verbs):
        raise ValueError(f"a verb code is outside 0..{len(verbs) - 1}; decode with the same policy")
