"""Graph rows (2): whom and what a user follows, mutes and blocks, in insertion order."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.columns import ActivityColumns
from models.effects import Effects
from models.fingerprint import FP48
from models.groups import Groups
from models.verbs import GraphAct, Role, VerbTable

U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]

FOLLOWS_MAX = 5_000
MUTES_MAX = 1_000
BLOCKS_MAX = 1_000
KIND_AUTHOR, KIND_TOPIC, KIND_KEYWORD = 0, 1, 2
DAY_MS = 86_400_000

_COUNTS = struct.Struct("<III")
_KINDS_FLAG = 0x80000000


def _edges() -> U64:
    return np.empty(0, np.uint64)


def _kinds() -> U8:
    return np.empty(0, np.uint8)


@dataclass(slots=True)
class GraphRow:
    """Edges `fp48 << 16 | day` (uint64[k]) oldest first, and the kind of each one's object (uint8[k])."""

    follows: U64 = field(default_factory=_edges)
    mutes: U64 = field(default_factory=_edges)
    blocks: U64 = field(default_factory=_edges)
    follow_kinds: U8 = field(default_factory=_kinds)
    mute_kinds: U8 = field(default_factory=_kinds)
    block_kinds: U8 = field(default_factory=_kinds)

    def lists(self) -> tuple[tuple[U64, U8], ...]:
        return (
            (self.follows, self.follow_kinds),
            (self.mutes, self.mute_kinds),
            (self.blocks, self.block_kinds),
        )

    def encode(self) -> bytes:
        """`<III` counts, top bit set when a list has kinds; the edges; then the kinds of such lists."""
        lists = self.lists()
        flags = [_KINDS_FLAG if kinds.any() else 0 for _, kinds in lists]
        counts = _COUNTS.pack(*(edges.size | flag for (edges, _), flag in zip(lists, flags, strict=True)))
        kinds = [kinds.tobytes() for (_, kinds), flag in zip(lists, flags, strict=True) if flag]
        return b"".join([counts, *(edges.tobytes() for edges, _ in lists), *kinds])

    @classmethod
    def decode(cls, data: bytes) -> GraphRow:
        """Raises ValueError when `data` is not one graph row."""
        if len(data) < _COUNTS.size:
            raise ValueError(f"a graph row of {len(data)} bytes is cut short; replay the user's partition")
        heads = _COUNTS.unpack_from(data)
        counts = [head & ~_KINDS_FLAG for head in heads]
        kinds = [n if head & _KINDS_FLAG else 0 for n, head in zip(counts, heads, strict=True)]
        if len(data) != _COUNTS.size + 8 * sum(counts) + sum(kinds):
            raise ValueError(
                f"a graph row of {len(data)} bytes does not match {counts} edges; replay its partition"
            )
        edges, offset = [], _COUNTS.size
        for count in counts:
            edges.append(np.frombuffer(data, "<u8", count, offset))
            offset += 8 * count
        marks = []
        for count, stored in zip(counts, kinds, strict=True):
            marks.append(np.frombuffer(data, "u1", stored, offset) if stored else np.zeros(count, np.uint8))
            offset += stored
        return cls(*edges, *marks)

    def put(self, act: GraphAct, fp: int, kind: int, day: int) -> None:
        """Add an edge, or move the one to the same object to the end with the new day; the oldest leaves."""
        name, kinds_name, room = _LISTS[act]
        edges, kinds = self._without(name, kinds_name, fp, kind)
        edge = np.uint64((fp & int(FP48)) << 16 | (day & 0xFFFF))
        setattr(self, name, np.append(edges, edge)[-room:])
        setattr(self, kinds_name, np.append(kinds, np.uint8(kind))[-room:])

    def withdraw(self, act: GraphAct, fp: int, kind: int) -> None:
        """Remove the edge to an object, if it is there."""
        name, kinds_name, _ = _LISTS[act]
        edges, kinds = self._without(name, kinds_name, fp, kind)
        setattr(self, name, edges)
        setattr(self, kinds_name, kinds)

    def _without(self, name: str, kinds_name: str, fp: int, kind: int) -> tuple[U64, U8]:
        edges, kinds = getattr(self, name), getattr(self, kinds_name)
        other = (edges >> np.uint64(16) != np.uint64(fp & int(FP48))) | (kinds != kind)
        return edges[other], kinds[other]


_LISTS = {
    GraphAct.FOLLOW: ("follows", "follow_kinds", FOLLOWS_MAX),
    GraphAct.MUTE: ("mutes", "mute_kinds", MUTES_MAX),
    GraphAct.BLOCK: ("blocks", "block_kinds", BLOCKS_MAX),
}


class Graphs:
    """Graph rows by arena slot, as bytes (8 per edge); most users have none. `dirty`: for the next cut."""

    def __init__(self) -> None:
        self._rows: dict[int, bytes] = {}
        self.dirty: set[int] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, slot: int) -> GraphRow:
        """The user's graph, a copy; empty when there is none."""
        stored = self._rows.get(slot)
        return GraphRow() if stored is None else GraphRow.decode(stored)

    def apply(
        self, columns: ActivityColumns, effects: Effects, groups: Groups, verbs: VerbTable
    ) -> list[int]:
        """Apply the graph activities among the good records; returns the slots that changed."""
        members = np.flatnonzero(effects.role[groups.order] == Role.GRAPH)
        slots: list[int] = groups.slot[members].tolist()
        changed = {slot: self.get(slot) for slot in slots}
        for slot, record in zip(slots, groups.order[members].tolist(), strict=True):
            row, fp = changed[slot], int(columns.object_fp[record])
            act, kind = GraphAct(int(verbs.graph[effects.verb[record]])), int(columns.target[record])
            if effects.undo[record]:
                row.withdraw(act, fp, kind)
            else:
                row.put(act, fp, kind, int(columns.event_ms[record]) // DAY_MS)
        self._rows.update((slot, row.encode()) for slot, row in changed.items())
        self.dirty.update(changed)
        return list(changed)

    def cut(self) -> list[tuple[int, bytes]]:
        """(slot, row as stored) of all that changed since the last cut, by slot; a change makes a new one."""
        slots, self.dirty = sorted(self.dirty), set()
        return [(slot, self._rows[slot]) for slot in slots]

    def restore(self, slot: int, data: bytes) -> None:
        """Take over a stored row, last-wins. Raises ValueError when it is none."""
        GraphRow.decode(data)
        self._rows[slot] = data

    def release(self, slots: list[int]) -> None:
        """These users are evicted."""
        for slot in slots:
            self._rows.pop(slot, None)
