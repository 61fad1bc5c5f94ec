"""Labels: what came of what was shown. The unit is an impression, never an emission (after the flow's end).

One pass over activities in order of event time. docs/models.md states the rules and why they are so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.columns import ActivityColumns
from models.fingerprint import fp64s
from models.users import SESSION_GAP_MS
from models.verbs import Role, VerbTable

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

COUNTED = (Role.WEAK, Role.STRONG, Role.NEGATIVE)
"""Roles whose verbs are labels, as far as the policy gives them a value or an affinity."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """n impressions in order of time, merged and mature.

    `user`: ids; `user_fp`, `item_fp`, `slate_fp` (0 = none) uint64[n]; `time_ms` int64[n] of the first
    showing; `position` int64[n] (-1 = unknown); `verbs` int64[n, V]: actions by verb code; `dwell_ms`
    int64[n]: the longest stay. `counts`: what was joined, merged and cut, by name.
    """

    user: list[bytes]
    user_fp: U64
    item_fp: U64
    slate_fp: U64
    time_ms: I64
    position: I64
    verbs: NDArray[np.int64]
    dwell_ms: I64
    counts: Counter[str]

    def __len__(self) -> int:
        return len(self.user)

    def by_role(self, table: VerbTable) -> NDArray[np.int8]:
        """int8[3, n]: 1 where an action of role weak, strong or negative followed."""
        there = self.verbs > 0
        rows = [(there & ((table.role == role) & _counts(table))).any(axis=1) for role in COUNTED]
        return np.stack(rows).astype(np.int8)

    def value(self, table: VerbTable) -> NDArray[np.float64]:
        """float64[n]: the sum of the policy's values of the verbs that followed, each once."""
        values = np.array([verb.value for verb in table.verbs])
        total: NDArray[np.float64] = (self.verbs > 0) @ values
        return total


def label_windows(verbs: VerbTable, window_s: int | None = None) -> I64:
    """int64[V]: how long after an impression an action still counts, in ms; -1 = never a label."""
    every = [verb.label_window_s if window_s is None else window_s for verb in verbs.verbs]
    return np.where(_counts(verbs), np.array(every, np.int64) * 1_000, -1)


def _counts(verbs: VerbTable) -> NDArray[np.bool_]:
    worth = np.array([bool(verb.value or verb.affinity) for verb in verbs.verbs])
    counted: NDArray[np.bool_] = np.isin(verbs.role, COUNTED) & worth
    return counted


def join(
    parts: Sequence[ActivityColumns], verbs: VerbTable, window_s: int | None = None, end_ms: int | None = None
) -> Labelled:
    """Labels of all impressions in some partitions.

    `window_s` replaces the windows of all verbs. `end_ms`: up to when the log is whole; None = its newest
    event. Impressions of which a window reaches beyond it are cut.
    """
    windows = label_windows(verbs, window_s)
    newest = max((int(part.event_ms.max()) for part in parts if len(part)), default=0)
    joined = _Join(verbs, windows)
    for part in parts:
        joined.take(part)
    return joined.result((newest if end_ms is None else end_ms) - int(windows.max(initial=0)))


@dataclass(slots=True)
class _Shown:
    """One impression as it fills: `last_ms` is its latest showing."""

    user: bytes
    user_fp: int
    item_fp: int
    slate_fp: int
    time_ms: int
    position: int
    last_ms: int
    verbs: Counter[int] = field(default_factory=Counter)
    dwell_ms: int = 0


class _Join:
    def __init__(self, verbs: VerbTable, windows: I64) -> None:
        self.verbs, self.windows = verbs, windows.tolist()
        self.counts: Counter[str] = Counter()
        self.shown: list[_Shown] = []
        self._seen_ids: set[tuple[int, int]] = set()
        self._session: dict[int, tuple[int, int]] = {}
        self._in_session: dict[tuple[int, int, int], _Shown] = {}
        self._in_slate: dict[tuple[int, int, int], _Shown] = {}
        self._last: dict[tuple[int, int], _Shown] = {}
        self._done: dict[tuple[int, int, int, int], _Shown] = {}
        self._unmatched: list[tuple[int, int]] = []

    def take(self, part: ActivityColumns) -> None:
        """All activities of a partition."""
        order = np.lexsort((part.offset, part.event_ms))
        users = fp64s(part.keys).tolist()
        role = self.verbs.role[part.verb].tolist()
        names = ("activity_fp", "object_fp", "slate_fp", "event_ms", "verb", "position", "dwell_ms")
        columns = [getattr(part, name).tolist() for name in (*names, "undone_verb", "undone_ms")]
        for i in order.tolist():
            activity, item, slate, at, verb, position, dwell, undone, undone_ms = (c[i] for c in columns)
            user = users[i]
            if (user, activity) in self._seen_ids:
                self.counts["repeated activity ids"] += 1
                continue
            self._seen_ids.add((user, activity))
            session = self._session_of(user, at)
            if role[i] == Role.EXPOSURE:
                self._show(part.keys[i], (user, item, slate), at, position, session)
            elif role[i] == Role.UNDO:
                self._undo((user, item, undone, undone_ms))
            elif self.windows[verb] >= 0:
                self._act((user, item, slate), at, verb, dwell)

    def _session_of(self, user: int, at: int) -> int:
        number, newest = self._session.get(user, (0, at))
        number += at - newest > SESSION_GAP_MS
        self._session[user] = number, max(at, newest)
        return number

    def _show(self, key: bytes, where: tuple[int, int, int], at: int, position: int, session: int) -> None:
        user, item, slate = where
        self.counts["impressions"] += 1
        shown = self._in_session.get((user, item, session))
        if shown is None:
            shown = _Shown(key, user, item, slate, at, position, at)
            self.shown.append(shown)
            self._in_session[user, item, session] = shown
        else:
            self.counts["impressions merged within a session"] += 1
            shown.last_ms = at
        self._last[user, item] = shown
        if slate:
            self._in_slate[user, item, slate] = shown

    def _act(self, where: tuple[int, int, int], at: int, verb: int, dwell: int) -> None:
        user, item, slate = where
        self.counts["actions"] += 1
        by_slate = self._in_slate.get(where) if slate else None
        shown = by_slate or self._last.get((user, item))
        if shown is None:
            self._unmatched.append((user, item))
        elif at - shown.last_ms > self.windows[verb]:
            self.counts["actions after the window"] += 1
        else:
            self.counts["actions joined by slate" if by_slate else "actions joined by item"] += 1
            shown.verbs[verb] += 1
            shown.dwell_ms = max(shown.dwell_ms, dwell)
            self._done[user, item, verb, at] = shown

    def _undo(self, what: tuple[int, int, int, int]) -> None:
        shown = self._done.pop(what, None)
        if shown is None:
            self.counts["undos of nothing that was joined"] += 1
        else:
            self.counts["actions withdrawn"] += 1
            shown.verbs[what[2]] -= 1

    def result(self, mature_ms: int) -> Labelled:
        """All impressions up to `mature_ms`."""
        for where in self._unmatched:
            later = where in self._last
            self.counts["actions before their impression" if later else "actions without impression"] += 1
        ready = [one for one in self.shown if one.last_ms <= mature_ms]
        self.counts["impressions immature"] += len(self.shown) - len(ready)
        ready.sort(key=lambda one: (one.time_ms, one.user_fp, one.slate_fp, one.position, one.item_fp))
        verbs = np.zeros((len(ready), len(self.windows)), np.int64)
        for row, one in zip(verbs, ready, strict=True):
            for verb, times in one.verbs.items():
                row[verb] = times
        return Labelled(
            [one.user for one in ready],
            np.array([one.user_fp for one in ready], np.uint64),
            np.array([one.item_fp for one in ready], np.uint64),
            np.array([one.slate_fp for one in ready], np.uint64),
            np.array([one.time_ms for one in ready], np.int64),
            np.array([one.position for one in ready], np.int64),
            verbs,
            np.array([one.dwell_ms for one in ready], np.int64),
            +self.counts,
        )


SPLITS = ("train", "valid", "test", "gap")


def split_by_time(
    time_ms: I64, gap_ms: int, valid_share: float = 0.15, test_share: float = 0.15
) -> NDArray[np.int8]:
    """int8[n], places in SPLITS: by time, so that the shares come last; impressions less than one window
    before a border are its gap: their labels were not known when the next part began.

    Raises ValueError where the shares leave nothing to train on.
    """
    if min(valid_share, test_share) < 0 or valid_share + test_share >= 1:
        raise ValueError(f"shares {valid_share} and {test_share} leave nothing to train on; lower them")
    if not len(time_ms):
        return np.zeros(0, np.int8)
    ordered = np.sort(time_ms)
    borders = [ordered[min(len(ordered) - 1, int(len(ordered) * s))] for s in
               (1 - valid_share - test_share, 1 - test_share)]  # fmt: skip
    split = np.searchsorted(np.array(borders), time_ms, side="right").astype(np.int8)
    for border in borders:
        split[(time_ms < border) & (time_ms >= border - gap_ms)] = SPLITS.index("gap")
    return split
