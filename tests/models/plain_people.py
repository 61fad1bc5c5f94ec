"""What docs/ranking.md reads of items and users, in plain Python numbers (see plain_ranking.py).

Uses nothing of `models` but tables (tests/models/test_tables.py has their definitions), fingerprints and rows
that are already merged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.fingerprint import fp64
from models.tables import DECAY_NEGATIVE, DECAY_POSITIVE, LOG2, decay, exp2_fixed

G, R = 4096, 1 << 24
FP48, FP32 = (1 << 48) - 1, (1 << 32) - 1
EXPOSURE, WEAK, STRONG, NEGATIVE, DWELL = range(5)
HEADS = {"weak": WEAK, "strong": STRONG, "negative": NEGATIVE}
MASK = (1 << 64) - 1


def lb(n: int) -> int:
    e = n.bit_length() - 1
    return e * G + int(LOG2[(n * G >> e) - G])


def clip(x: int, low: int, high: int) -> int:
    return max(low, min(high, x))


def smooth(n: int, t: int, prior: int, w: int) -> int:
    return min(R, (n * R + w * prior) // (t + w))


def trials(c: list[int]) -> int:
    return max(c[EXPOSURE], c[WEAK] + c[STRONG] + c[NEGATIVE])


def counted(counts: list[int]) -> list[int]:
    return [clip(int(c), 0, 1 << 28) for c in counts]


def splitmix64(x: int) -> int:
    z = (x + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
    return z ^ z >> 31


@dataclass
class Item:
    """One live item, from the index's columns."""

    slot: int
    fp: int
    created_ms: int
    author: str
    topics: list[str]
    embedding: list[int]
    title: str | None
    trend: int
    d: Any

    def window(self, name: str) -> list[int]:
        return counted(self.d[name].tolist())


@dataclass
class World:
    """All live items and the sums that rates lean on."""

    items: dict[int, Item]
    total: list[int] = field(default_factory=lambda: [0] * 5)
    examined: int = 0
    by_author: dict[str, list[int]] = field(default_factory=dict)
    by_topic: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, index: Any) -> World:
        world = cls({})
        for slot in range(len(index.ids)):
            if not index.live[slot]:
                continue
            topics = [index.topic_ids[t] for t in index.topics[slot].tolist() if t >= 0]
            author = index.author_ids[index.author[slot]]
            embedding = [int(x) for x in index.embedding[slot].tolist()]
            world.items[slot] = Item(
                slot, fp64(index.ids[slot].encode()), int(index.created_ms[slot]), author, topics,
                embedding, index.title[slot], int(index.trend[slot]), index.derived[slot],
            )  # fmt: skip
            world.examined += int(index.derived[slot]["examined"])
            for sums in (world.total, world.by_author.setdefault(author, [0] * 5),
                         *(world.by_topic.setdefault(t, [0] * 5) for t in topics)):  # fmt: skip
                for role, n in enumerate(index.derived[slot]["d7"].tolist()):
                    sums[role] += n
        return world

    def all(self, role: int) -> int:
        t = [max(0, n) for n in self.total]
        base = {WEAK: R // 20, STRONG: R // 100, NEGATIVE: R // 500}[role]
        return max(1, (t[role] * R + 1000 * base) // (trials(t) + 1000))

    def rates(self, item: Item, role: int) -> tuple[int, int, int]:
        """week, day, hour."""
        prior = self.all(role)
        if item.topics:
            sums = counted(self.by_topic[item.topics[0]])
            prior = smooth(sums[role], trials(sums), prior, 100)
        rates = []
        for name in ("d7", "h24", "h1"):
            c = item.window(name)
            prior = smooth(c[role], trials(c), prior, 20)
            rates.append(prior)
        return rates[0], rates[1], rates[2]

    def debiased(self, item: Item) -> int:
        """log2 of the week's trials over those by impressions weighted by place."""
        c = item.window("d7")
        per_weight = (max(0, self.total[EXPOSURE]) + 1000) * 65_536 // (max(0, self.examined) + 16_000)
        shown = max(0, int(item.d["examined"])) * min(per_weight, 65_536) // 65_536
        return lb(trials(c) + 20) - lb(max(min(shown, 1 << 28), sum(c[WEAK : NEGATIVE + 1])) + 20)


@dataclass
class Person:
    """What is read of one user at `as_of`."""

    user: bytes
    row: Any
    merged: Any
    seen: dict[int, tuple[int, int]]
    graph: dict[str, list[tuple[int, int]]]
    verbs: Any
    world: World
    as_of: int

    def __post_init__(self) -> None:
        self.as_of_s = self.as_of // 1000
        hours = max(0, self.as_of_s - int(self.merged["merged_s"])) // 3600
        self.long = {name: self._long(name, hours) for name in ("author", "topic")}
        self.ring = self._ring()
        self.directions = [
            self._direction([int(x) for x in self.merged["embedding"].tolist()]),
            self._short_direction(),
        ]

    def _long(self, name: str, hours: int) -> dict[int, tuple[int, int, int]]:
        fps = self.merged[name + "_fp"].tolist()
        one = lambda w, table: int(decay(np.array([w]), np.array([hours]), table)[0])  # noqa: E731
        pos = [one(w, DECAY_POSITIVE) for w in self.merged[name + "_pos"].tolist()]
        neg = [one(w, DECAY_NEGATIVE) for w in self.merged[name + "_neg"].tolist()]
        total = max(1, sum(pos))
        return {f: (p, n, p * G // total) for f, p, n in zip(fps, pos, neg, strict=True) if f}

    def _ring(self) -> list[dict[str, Any]]:
        row, entries = self.merged, []
        items = {i.fp: i for i in self.world.items.values()}
        engaged = int(row["engaged"])
        for j in range(16):
            number = engaged - 1 - (engaged - 1 - j) % 16
            if number < 0:
                continue
            act = int(row["ring_act"][j])
            verb = self.verbs.verbs[act & 0x1F]
            age = max(0, self.as_of_s - int(row["ring_s"][j]))
            fading = int(exp2_fixed(np.array([float(-(age * G // verb.half_life_s))]))[0])
            undo = act >= 0x80
            entries.append({
                "fp": int(row["ring_fp"][j]), "number": number, "undo": undo, "role": int(verb.role),
                "liked": verb.affinity > 0, "weight": verb.affinity * fading * (-1 if undo else 1),
                "item": items.get(int(row["ring_fp"][j])),
            })  # fmt: skip
        return entries

    def short(self, kind: str, key: int) -> tuple[int, int]:
        pos = neg = 0
        for e in self.ring:
            if e["item"] is None:
                continue
            names = [e["item"].author] if kind == "author" else e["item"].topics
            if key in [fp64(n.encode()) & FP32 for n in names]:
                pos += e["weight"] if e["liked"] else 0
                neg -= 0 if e["liked"] else e["weight"]
        return max(0, pos), max(0, neg)

    def standing(self, role: int) -> set[int]:
        found = set()
        for e in self.ring:
            withdrawn = any(
                o["undo"] and o["role"] == role and o["fp"] == e["fp"] and o["number"] > e["number"]
                for o in self.ring
            )
            if e["role"] == role and not e["undo"] and not withdrawn:
                found.add(e["fp"] & FP32)
        return found

    def _direction(self, vector: list[int]) -> list[int]:
        most = max(1, max(abs(x) for x in vector))
        return [(1 if x > 0 else -1) * (abs(x) * 127 // most) for x in vector]

    def _short_direction(self) -> list[int]:
        total = [0] * 64
        for e in self.ring:
            if e["item"] is not None:
                total = [t + e["weight"] * x for t, x in zip(total, e["item"].embedding, strict=True)]
        return self._direction(total)

    def edges(self, name: str, kind: int) -> set[int]:
        return {fp48 for fp48, k in self.graph[name] if k == kind}

    def week(self) -> list[int]:
        today, newest = self.as_of // 86_400_000, int(self.row["newest_ms"]) // 86_400_000
        sums = [0] * 5
        for slot, counts in enumerate(self.row["d1"].tolist()):
            bucket = newest - (newest - slot) % 7
            if today - 7 < bucket <= today:
                sums = [s + c for s, c in zip(sums, counts, strict=True)]
        return [max(0, s) for s in sums]
