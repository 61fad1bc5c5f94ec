"""User rows, seen pages, graph rows (2): one record after the other (docs/state.md)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from tests.oracle.merge import AUTHORS, RING, TOPICS, Engagement, Tastes, Weights, merged
from tests.oracle.numbers import DAY_MS, MASK32, fp48, fp64, wrapped
from tests.oracle.policy import EXPOSURE, GRAPH, STRONG, UNDO, WEAK, Policy, Verb
from tests.oracle.records import KINDS, Activity, Item
from tests.oracle.rings import Rings

IDS, SEEN, PAGE = 16, 512, 64
SESSION_GAP_MS = 1_800_000
DWELL_S_MAX = 3600
EDGES_MAX = {"follow": 5_000, "mute": 1_000, "block": 1_000}
HAS_KINDS = 1 << 31

Edges = dict[tuple[int, int], int]
"""(fp48, kind) -> day, oldest first."""


class User:
    """Everything that is kept of one user."""

    def __init__(self, user: str) -> None:
        self.id = user
        self.rings = Rings()
        self.records = 0
        self.ids: list[int] = [0] * IDS
        self.signal_ms = self.session_start_ms = self.session_depth = 0
        self.engaged = self.shown = 0
        self.ring: list[Engagement | None] = [None] * RING
        self.tastes = Tastes()
        self.seen: list[int] = [0] * SEEN
        self.graph: dict[str, Edges] | None = None

    def is_repeated(self, activity: Activity) -> bool:
        """One of the previous 16 records had this id; this one's id is noted."""
        fp = fp64(activity.activity_id)
        repeated = fp in self.ids[: min(self.records, IDS)]
        self.ids[self.records % IDS] = fp
        self.records += 1
        return repeated

    def apply(self, activity: Activity, own: Verb, verb: Verb, items: Mapping[int, Item]) -> None:
        """`own`: the record's verb; `verb`: the same, or for an undo the undone one."""
        undo, t, at = own.role == UNDO, activity.time_ms, resolved_ms(activity, own)
        if t - self.rings.newest_ms > SESSION_GAP_MS:
            self.session_start_ms, self.session_depth = t, 0
        self.session_depth += own.role in (WEAK, STRONG)
        if own.makes_due:
            self.signal_ms = max(self.signal_ms, t)
        self.rings.move(t)
        if verb.role == GRAPH:
            self._connect(activity, verb.graph or "", undo)
            return
        self.rings.count(at, verb.role, -1 if undo else 1)
        if not undo:
            self.rings.d1.add(at, 4, dwell_s(activity), self.rings.newest_ms)
        if verb.role == EXPOSURE:
            entry = fp64(activity.object) & MASK32, at // DAY_MS, 0xFFFF if undo else 1
            self.seen[self.shown % SEEN] = entry[0] << 32 | entry[1] << 16 | entry[2]
            self.shown += 1
        elif verb.affinity:
            self._engage(Engagement(fp64(activity.object), at // 1000, verb, undo), items)

    def _engage(self, entry: Engagement, items: Mapping[int, Item]) -> None:
        self.ring[self.engaged % RING] = entry
        self.engaged += 1
        if self.engaged % RING == 0:
            self.tastes = merged(self.tastes, [e for e in self.ring if e], items)

    def _connect(self, activity: Activity, act: str, undo: bool) -> None:
        if self.graph is None:
            self.graph = {name: {} for name in EDGES_MAX}
        edges = self.graph[act]
        edge = fp48(activity.object), KINDS.index(activity.target or "author")
        edges.pop(edge, None)
        if not undo:
            edges[edge] = activity.time_ms // DAY_MS
            if len(edges) > EDGES_MAX[act]:
                del edges[next(iter(edges))]

    # -- as it is read ---------------------------------------------------------------------------------

    def tastes_now(self, items: Mapping[int, Item]) -> Tastes:
        """With the unfinished ring merged."""
        return merged(self.tastes, [e for e in self.ring[: self.engaged % RING] if e], items)

    def engagements(self) -> list[Engagement]:
        """The last 16, oldest first."""
        numbers = range(max(0, self.engaged - RING), self.engaged)
        return [e for n in numbers if (e := self.ring[n % RING])]

    def seen_items(self) -> dict[int, tuple[int, int]]:
        """fp32 -> (times, last day) of what was shown and not withdrawn."""
        found: dict[int, tuple[int, int]] = {}
        for entry in self.seen[: min(self.shown, SEEN)]:
            item, day, times = entry >> 32, entry >> 16 & 0xFFFF, wrapped(entry & 0xFFFF, 16)
            before = found.get(item, (0, 0))
            found[item] = before[0] + times, max(before[1], day)
        return {item: pair for item, pair in found.items() if pair[0] > 0}

    def edges(self, act: str, kind: str) -> list[int]:
        """fp48 of what the user follows (mutes, blocks), oldest edge first."""
        return [fp for fp, k in (self.graph or {}).get(act, {}) if KINDS[k] == kind]

    # -- as it is stored -------------------------------------------------------------------------------

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of every row in the changelog."""
        key = self.id.encode()
        yield b"u" + key, self.row()
        for page in range(-(-min(self.shown, SEEN) // PAGE)):
            yield b"s%c" % page + key, struct.pack("<64Q", *self.seen[page * PAGE : (page + 1) * PAGE])
        if self.graph is not None:
            yield b"g" + key, _graph_row(list(self.graph.values()))

    def row(self) -> bytes:
        rings, ring = self.rings, [e or Engagement(0, 0, _NO_VERB, False) for e in self.ring]
        head = struct.pack(
            "<4q4I", rings.newest_ms, self.records, self.signal_ms, self.session_start_ms,
            self.session_depth, self.engaged, self.shown, self.tastes.merged_s,
        )  # fmt: skip
        counts = struct.pack(
            "<16Q48h96h35i4x8q", *self.ids, *(wrapped(n, 16) for n in rings.m5.places(4)),
            *(wrapped(n, 16) for n in rings.h1.places(4)), *rings.d1.places(5), *rings.long.places(4),
        )  # fmt: skip
        acts = [e.verb.code | (0x80 if e.undo else 0) for e in ring]
        engagements = struct.pack("<16Q16I16B", *(e.item for e in ring), *(e.at_s for e in ring), *acts)
        tastes = _weights(self.tastes.authors, AUTHORS) + _weights(self.tastes.topics, TOPICS)
        return head + counts + engagements + tastes + struct.pack("<64h", *self.tastes.embedding)


_NO_VERB = Verb(0, 0, 0, 0, False, None)


class Users:
    """The users of one partition of activities."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.users: dict[str, User] = {}
        self.position = 0

    def apply(self, activity: Activity, items: Mapping[int, Item]) -> bool:
        """One good record; False for a duplicate."""
        self.position += 1
        user = self.users.setdefault(activity.actor, User(activity.actor))
        if user.is_repeated(activity):
            return False
        own = self.policy.verbs[activity.verb]
        user.apply(activity, own, resolved_verb(activity, self.policy), items)
        return True


def resolved_verb(activity: Activity, policy: Policy) -> Verb:
    """The verb that counts: of an undo the undone one."""
    own = policy.verbs[activity.verb]
    return policy.verbs[activity.undone_verb or ""] if own.role == UNDO else own


def resolved_ms(activity: Activity, own: Verb) -> int:
    """The time that counts: of an undo the undone activity's, but never later than its own."""
    if own.role != UNDO:
        return activity.time_ms
    return min(max(activity.undone_ms, 0), activity.time_ms)


def dwell_s(activity: Activity) -> int:
    return min(max(activity.dwell_ms // 1000, 0), DWELL_S_MAX)


def _weights(weights: Weights, size: int) -> bytes:
    empty = [0] * (size - len(weights))
    columns = (
        [*weights, *empty],
        [p for p, _ in weights.values()] + empty,
        [n for _, n in weights.values()] + empty,
    )
    return struct.pack(f"<{size}I{size}i{size}i", *columns[0], *columns[1], *columns[2])


def _graph_row(lists: list[Edges]) -> bytes:
    with_kinds = [any(kind for _, kind in edges) for edges in lists]
    counts = [
        len(edges) | (HAS_KINDS if kinds else 0) for edges, kinds in zip(lists, with_kinds, strict=True)
    ]
    packed = [fp << 16 | day for edges in lists for (fp, _), day in edges.items()]
    kinds = [kind for edges, some in zip(lists, with_kinds, strict=True) if some for _, kind in edges]
    return struct.pack("<3I", *counts) + struct.pack(f"<{len(packed)}Q", *packed) + bytes(kinds)
