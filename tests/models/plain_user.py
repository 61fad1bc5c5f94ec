"""A user's row in plain Python, one record after the other: slow and obviously right."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.columns import ActivityColumns
from models.tables import DECAY_NEGATIVE, DECAY_POSITIVE, LONG_WEIGHT
from models.verbs import GraphAct, Role, Verb, VerbTable

VERBS = VerbTable(
    [
        Verb("impression", Role.EXPOSURE),
        Verb("click", Role.WEAK, affinity=2),
        Verb("like", Role.STRONG, affinity=8, makes_due=True),
        Verb("report", Role.NEGATIVE, affinity=-40, makes_due=True),
        Verb("undo", Role.UNDO, makes_due=True),
        Verb("follow", Role.GRAPH, graph=GraphAct.FOLLOW),
        Verb("mute", Role.GRAPH, graph=GraphAct.MUTE),
        Verb("block", Role.GRAPH, graph=GraphAct.BLOCK),
        Verb("open", Role.WEAK),
    ]
)
UNDO, FOLLOW = 4, 5
T0 = 1_700_000_000_000
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
EPOCH_MS = 240 * DAY_MS


@dataclass
class Attributes:
    known: np.ndarray
    author_fp32: np.ndarray
    topic_fp32: np.ndarray
    embedding: np.ndarray


class Items:
    """Items 1..`count` are known: author, two topics and embedding by formula."""

    def __init__(self, count: int = 60) -> None:
        self.count = count

    def lookup(self, fps: np.ndarray) -> np.ndarray:
        return np.where((fps >= 1) & (fps <= self.count), fps.astype(np.int64), -1).astype(np.int32)

    def attributes(self, fps: np.ndarray) -> Attributes:
        known = self.lookup(fps) >= 0
        rows = [self.one(int(f)) if k else (0, [0] * 4, [0] * 64) for f, k in zip(fps, known, strict=True)]
        return Attributes(
            known,
            np.array([r[0] for r in rows], np.uint32),
            np.array([r[1] for r in rows], np.uint32).reshape(-1, 4),
            np.array([r[2] for r in rows], np.int8).reshape(-1, 64),
        )

    @staticmethod
    def one(fp: int) -> tuple[int, list[int], list[int]]:
        embedding = [((fp * 31 + d * 17) % 255) - 127 for d in range(64)]
        return fp % 29 + 1, [fp % 13 + 1, fp % 19 + 101, 0, 0], embedding


@dataclass
class PlainUser:
    newest: int = 0
    ids: list[int] = field(default_factory=list)
    signal: int = 0
    start: int = 0
    depth: int = 0
    engaged: int = 0
    ring: list[tuple[int, int, int, int]] = field(default_factory=list)
    cells: dict[tuple[int, int, int], int] = field(default_factory=dict)
    long: dict[tuple[int, int], int] = field(default_factory=dict)
    authors: dict[int, tuple[int, int]] = field(default_factory=dict)
    topics: dict[int, tuple[int, int]] = field(default_factory=dict)
    embedding: list[int] = field(default_factory=lambda: [0] * 64)
    merged: int = 0
    seen: list[tuple[int, int, int] | None] = field(default_factory=lambda: [None] * 512)
    shown: int = 0
    graph: dict[str, list[tuple[int, int, int]]] = field(
        default_factory=lambda: {"follow": [], "mute": [], "block": []}
    )
    duplicates: int = 0
    late: int = 0

    def apply(self, c: ActivityColumns, i: int, items: Items) -> None:
        fp = int(c.activity_fp[i])
        repeated = fp in self.ids[-16:]
        self.ids.append(fp)
        if repeated:
            self.duplicates += 1
            return
        event, verb = int(c.event_ms[i]), int(c.verb[i])
        undo = verb == UNDO
        at = max(0, min(int(c.undone_ms[i]), event)) if undo else event
        real = int(c.undone_verb[i]) if undo else verb
        role = int(VERBS.role[real])
        if event - self.newest > 30 * 60_000:
            self.start, self.depth = event, 0
        self.newest = max(self.newest, event)
        if int(VERBS.role[verb]) in (1, 2):
            self.depth += 1
        if VERBS.verbs[verb].makes_due:
            self.signal = max(self.signal, event)
        sign = -1 if undo else 1
        if role == 4:
            self.follow(VERBS.verbs[real].name, int(c.object_fp[i]), int(c.target[i]), event // DAY_MS, undo)
            return
        self.late += at // DAY_MS <= self.newest // DAY_MS - 7
        for length in (300_000, HOUR_MS, DAY_MS):
            self.count(length, at // length, role, sign)
        if not undo:
            self.count(DAY_MS, at // DAY_MS, 4, min(max(int(c.dwell_ms[i]) // 1000, 0), 3600))
        bucket_ms = at // 300_000 * 300_000
        key = (bucket_ms // EPOCH_MS, role)
        self.long[key] = self.long.get(key, 0) + sign * int(LONG_WEIGHT[bucket_ms % EPOCH_MS // HOUR_MS])
        if role in (1, 2, 3) and int(VERBS.affinity[real]):
            self.ring.append((int(c.object_fp[i]), at // 1000, real, sign))
            self.engaged += 1
            if self.engaged % 16 == 0:
                self.merge(self.ring[-16:], items)
        elif role == 0:
            self.show(int(c.object_fp[i]) & 0xFFFFFFFF, at // DAY_MS, undo)

    def count(self, length: int, bucket: int, column: int, value: int) -> None:
        key = (length, bucket, column)
        self.cells[key] = self.cells.get(key, 0) + value

    def merge(self, entries: list[tuple[int, int, int, int]], items: Items) -> None:
        now = max([self.merged, *(e[1] for e in entries)])
        hours = (now - self.merged) // 3600
        for name in ("authors", "topics"):
            old = getattr(self, name)
            setattr(self, name, {k: (_decay(p, hours, 0), _decay(n, hours, 1)) for k, (p, n) in old.items()})
        total = [0] * 64
        for fp, at, verb, sign in entries:
            if not 1 <= fp <= items.count:
                continue
            author, topics, embedding = items.one(fp)
            affinity = int(VERBS.affinity[verb])
            gain = sign * _decay(max(affinity, 0) * 256, (now - at) // 3600, 0)
            loss = sign * _decay(max(-affinity, 0) * 256, (now - at) // 3600, 1)
            for table, key in ((self.authors, author), *((self.topics, t) for t in topics if t)):
                p, n = table.get(key, (0, 0))
                table[key] = (p + gain, n + loss)
            total = [s + affinity * sign * e for s, e in zip(total, embedding, strict=True)]
        self.authors, self.topics = _top(self.authors, 24), _top(self.topics, 16)
        stepped = [e + (s >> 4) - (e >> 3) for e, s in zip(self.embedding, total, strict=True)]
        self.embedding = [max(-32768, min(32767, e)) for e in stepped]
        self.merged = now

    def show(self, fp: int, day: int, undo: bool) -> None:
        self.seen[self.shown % 512] = (fp, day, -1 if undo else 1)
        self.shown += 1

    def follow(self, name: str, fp: int, kind: int, day: int, undo: bool) -> None:
        edges = [e for e in self.graph[name] if e[:2] != (fp & (1 << 48) - 1, kind)]
        if not undo:
            edges.append((fp & (1 << 48) - 1, kind, day))
        self.graph[name] = edges[-(5000 if name == "follow" else 1000) :]

    def row(self) -> dict[str, Any]:
        """All fields of USER_ROW but the reserved one."""
        out: dict[str, Any] = {
            "newest_ms": self.newest,
            "records": len(self.ids),
            "signal_ms": self.signal,
            "session_start_ms": self.start,
            "session_depth": self.depth,
            "engaged": self.engaged,
            "seen_count": self.shown,
            "merged_s": self.merged,
            "embedding": self.embedding,
        }
        ids = [0] * 16
        for n, fp in enumerate(self.ids):
            ids[n % 16] = fp
        out["ids"] = ids
        ring = [(0, 0, 0, 1)] * 16
        for n, entry in enumerate(self.ring):
            ring[n % 16] = entry
        out["ring_fp"], out["ring_s"] = [e[0] for e in ring], [e[1] for e in ring]
        out["ring_act"] = [e[2] | (0x80 if e[3] < 0 else 0) for e in ring]
        for name, length, kept, columns in (
            ("m5", 300_000, 12, 4),
            ("h1", HOUR_MS, 24, 4),
            ("d1", DAY_MS, 7, 5),
        ):
            table = [[0] * columns for _ in range(kept)]
            for (cell_length, bucket, column), value in self.cells.items():
                if cell_length == length and bucket > self.newest // length - kept:
                    table[bucket % kept][column] += value
            out[name] = table
        out["long"] = [[0] * 4, [0] * 4]
        for (epoch, role), value in self.long.items():
            if epoch > self.newest // EPOCH_MS - 2:
                out["long"][epoch % 2][role] += value
        for name, table, room in (("author", self.authors, 24), ("topic", self.topics, 16)):
            entries = [(k, p, n) for k, (p, n) in table.items()] + [(0, 0, 0)] * (room - len(table))
            for part, column in zip(("fp", "pos", "neg"), zip(*entries, strict=True), strict=True):
                out[f"{name}_{part}"] = list(column)
        return out

    def seen_entries(self) -> list[int]:
        items: dict[int, tuple[int, int]] = {}
        for fp, day, change in filter(None, self.seen):
            last, times = items.get(fp, (0, 0))
            items[fp] = max(last, day), times + change
        return sorted(fp << 32 | day << 16 | times for fp, (day, times) in items.items() if times > 0)


def _decay(weight: int, hours: int, negative: int) -> int:
    table = DECAY_NEGATIVE if negative else DECAY_POSITIVE
    return weight * int(table[min(max(hours, 0), len(table) - 1)]) >> 16


def _top(table: dict[int, tuple[int, int]], room: int) -> dict[int, tuple[int, int]]:
    clipped = [(k, max(0, min(p, 1 << 30)), max(0, min(n, 1 << 30))) for k, (p, n) in table.items()]
    ordered = sorted((-(p + n), k, p, n) for k, p, n in clipped if p + n)
    return {k: (p, n) for _, k, p, n in ordered[:room]}


def columns_of(records: list[dict[str, int]]) -> ActivityColumns:
    """Columns of records given as dicts: user, id, at, verb, object, and what else differs from absent."""

    def column(name: str, absent: int, dtype: Any) -> Any:
        return np.array([r.get(name, absent) for r in records], dtype)

    n = len(records)
    return ActivityColumns(
        keys=[b"user-%d" % r["user"] for r in records],
        offset=np.arange(n),
        record_ms=column("at", 0, np.int64),
        event_ms=column("at", 0, np.int64),
        activity_fp=column("id", 0, np.uint64),
        object_fp=column("object", 1, np.uint64),
        verb=column("verb", 0, np.int16),
        target=column("target", 0, np.int8),
        dwell_ms=column("dwell_ms", 0, np.int64),
        position=column("position", -1, np.int16),
        slate_fp=np.zeros(n, np.uint64),
        undone_verb=column("undone_verb", -1, np.int16),
        undone_ms=column("undone_ms", 0, np.int64),
    )
