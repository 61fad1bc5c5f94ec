"""Candidates by plain loops over a small world: slow, and obviously what docs/candidates.md says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from models.candidates import CandidateLimits
from models.fingerprint import fp64
from models.graph import KIND_AUTHOR, KIND_TOPIC
from tests.models.index_world import AS_OF_MS, DAY_MS, World

LOW32, LOW48, LOW64 = (1 << 32) - 1, (1 << 48) - 1, (1 << 64) - 1
ROLES = {0: "weak", 1: "strong"}


@dataclass
class OracleItem:
    fp: int
    author: int
    created_ms: int
    topics: list[int]
    embedding: list[int]
    derived: Any

    @property
    def recency(self) -> tuple[int, int]:
        return self.created_ms, self.fp


def engagement(counts: Any) -> int:
    return min(1 << 20, max(0, int(counts[1]) + 4 * int(counts[2]) - 8 * int(counts[3])))


def trend(item: OracleItem) -> int:
    if item.derived is None:
        return 0
    e1 = engagement(item.derived["h1"])
    e24 = max(e1, engagement(item.derived["h24"]))
    return (24 * e1 + e24) * 24 * (e1 + 5) // (e24 + 120)


def splitmix64(x: int) -> int:
    z = (x + 0x9E3779B97F4A7C15) & LOW64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & LOW64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & LOW64
    return z ^ (z >> 31)


def shrunk(e: list[int]) -> list[int]:
    most = max(1, *(abs(x) for x in e))
    return [(1 if x >= 0 else -1) * (abs(x) * 127 // most) for x in e]


class Oracle:
    """The items of a world, and what each source proposes to one user: ids, best first."""

    def __init__(self, world: World, limits: CandidateLimits) -> None:
        self.limits, self.items = limits, {}
        for n, r in world.items.items():
            topics = [fp64(t.encode()) for t in dict.fromkeys(r.topics)][:4]
            embedding = [0] * 64 if r.embedding is None else r.embedding.tolist()
            row = world.derived[n][0] if n in world.derived else None
            self.items[r.item_id] = OracleItem(
                fp64(r.item_id.encode()), fp64(r.author.encode()), r.created_ms, topics, embedding, row
            )
        self.by_recency = sorted(self.items, key=lambda i: self.items[i].recency, reverse=True)
        engaged = [i for i in self.items if self.engagers(i)]
        engaged.sort(key=lambda i: (int(self.items[i].derived["last_s"]), self.items[i].fp), reverse=True)
        self.engaged = engaged
        trending = [i for i in self.items if trend(self.items[i]) > 0]
        self.trending_all = sorted(
            trending, key=lambda i: (trend(self.items[i]), self.items[i].fp), reverse=True
        )

    def engagers(self, item: str) -> list[int]:
        row = self.items[item].derived
        return [] if row is None else [int(e) >> 16 for e in row["engagers"] if e]

    def engaged_by(self, fp48: int) -> list[str]:
        return [i for i in self.engaged if fp48 in self.engagers(i)][:8]

    def topics(self, user: Any) -> list[int]:
        weight: Counter[int] = Counter()
        for fp, pos, neg in zip(
            user.row["topic_fp"], user.row["topic_pos"], user.row["topic_neg"], strict=True
        ):
            if fp:
                weight[int(fp)] += int(pos) - int(neg)
        for edge, kind in zip(user.graph.follows, user.graph.follow_kinds, strict=True):
            if kind == KIND_TOPIC:
                weight[(int(edge) >> 16) & LOW32] += 16 * 256
        known = {t & LOW32 for item in self.items.values() for t in item.topics}
        liked = [t for t in weight if weight[t] > 0 and t in known]
        return sorted(liked, key=lambda t: (-weight[t], t))[:4]

    def follows(self, user: Any) -> list[int]:
        pairs = zip(user.graph.follows, user.graph.follow_kinds, strict=True)
        return [int(edge) >> 16 for edge, kind in pairs if kind == KIND_AUTHOR]

    def in_network(self, user: Any, by_time: bool = False) -> list[str]:
        affinity = {
            int(fp): int(pos) - int(neg)
            for fp, pos, neg in zip(
                user.row["author_fp"], user.row["author_pos"], user.row["author_neg"], strict=True
            )
            if fp
        }
        authors = {item.author & LOW48 for item in self.items.values()}
        followees = [f for f in self.follows(user) if f in authors]
        each = max(2, min(20, 1_000 // max(1, len(followees))))
        keyed = []
        for place, followee in enumerate(followees):
            mine = [i for i in self.by_recency if self.items[i].author & LOW48 == followee][:each]
            hours = 0 if by_time else min(48, max(0, affinity.get(followee & LOW32, 0)) // 256)
            for j, item in enumerate(mine):
                keyed.append((-(self.items[item].created_ms + hours * 3_600_000), place, j, item))
        return [item for *_, item in sorted(keyed)]

    def embedding(self, user: Any) -> list[str]:
        interest, keyed = shrunk(user.row["embedding"].tolist()), []
        for place, topic in enumerate(self.topics(user)):
            cell = [i for i in self.by_recency if topic in {t & LOW32 for t in self.items[i].topics}]
            for j, item in enumerate(cell[: self.limits.cell_items]):
                dot = sum(a * b for a, b in zip(interest, self.items[item].embedding, strict=True))
                keyed.append((-dot, j, place, item))
        return [item for *_, item in sorted(keyed)]

    def seeds(self, user: Any) -> list[int]:
        engaged = int(user.row["engaged"])
        done: set[int] = set()
        found = []
        for number in range(engaged - 1, max(-1, engaged - 17), -1):
            fp, act = int(user.row["ring_fp"][number % 16]), int(user.row["ring_act"][number % 16])
            undo, strong = bool(act & 0x80), ROLES[act & 0x1F] == "strong"
            if strong and not undo and fp not in done:
                found.append(fp)
            if strong or undo:
                done.add(fp)
        return found[:4]

    def by_count(self, named: Counter[str]) -> list[str]:
        return sorted(named, key=lambda i: (-named[i], self.engaged.index(i)))

    def item_to_item(self, user: Any) -> list[str]:
        seeds, named = self.seeds(user), Counter[str]()
        for seed in seeds:
            for item in self.items:
                if self.items[item].fp == seed:
                    for engager in self.engagers(item):
                        if engager != user.fp & LOW48:
                            named.update(i for i in self.engaged_by(engager) if self.items[i].fp not in seeds)
        return self.by_count(named)

    def social_proof(self, user: Any) -> list[str]:
        engaged = [e for f in self.follows(user) if (e := self.engaged_by(f))]
        each = max(1, min(8, 500 // max(1, len(engaged))))
        return self.by_count(Counter(i for e in engaged for i in e[:each]))

    def trending(self, user: Any) -> list[str]:
        return self.trending_all[:500]

    def topic_trending(self, user: Any, reach: int) -> list[str | None]:
        lists = [
            [i for i in self.trending_all if t in {x & LOW32 for x in self.items[i].topics}][:50]
            for t in self.topics(user)
        ]
        lists += [[]] * (4 - len(lists))
        return [ls[j] if j < len(ls) else None for j in range(-(-reach // 4)) for ls in lists][:reach]

    def explore(self, user: Any, reach: int) -> list[str]:
        pool = [
            i
            for i in self.by_recency
            if self.items[i].created_ms > AS_OF_MS - DAY_MS
            and (self.items[i].derived is None or self.items[i].derived["d7"][0] < 100)
        ]
        draws = [splitmix64((user.seed + j) & LOW64) for j in range(1, reach + 1)]
        return [pool[(d >> 32) * len(pool) >> 32] for d in draws] if pool else []

    def candidates(self, user: Any) -> list[tuple[str, frozenset[str]]]:
        """Ids in order, with the names of the sources that proposed them."""
        within, beyond = [], []
        for name, (quota, reach) in self.limits.sources.items():
            found: list[str | None]
            if name in ("explore", "topic_trending"):
                found = getattr(self, name)(user, reach)
            else:
                found = getattr(self, name)(user)[:reach]
            within += [(item, name) for item in found[:quota]]
            beyond += [(item, name) for item in found[quota:]]
        sources: dict[str, set[str]] = {}
        for item, name in within + beyond:
            if item is not None:
                sources.setdefault(item, set()).add(name)
        return [(i, frozenset(s)) for i, s in sources.items()][: self.limits.candidates]
