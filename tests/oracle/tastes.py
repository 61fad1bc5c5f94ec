"""What ranking reads of one user (8, docs/ranking.md): weights, ring, directions, seen items."""

from __future__ import annotations

from functools import cached_property

from tests.oracle.candidates import Query, direction
from tests.oracle.merge import Engagement, Weights
from tests.oracle.numbers import (
    DAY_MS,
    DECAY_NEGATIVE,
    DECAY_POSITIVE,
    GRID,
    MASK32,
    decay,
    exp2_fixed,
    log2_whole,
)
from tests.oracle.records import EMBEDDING_DIM

AFFINITY_UNIT = 256

Interest = dict[str, int]
NO_INTEREST: Interest = dict.fromkeys(("long_pos", "long_neg", "long_share", "short_pos", "short_neg"), 0)


class Reader:
    """One user as of a time."""

    def __init__(self, query: Query, as_of_ms: int) -> None:
        self.query, self.user, self.tastes = query, query.user, query.tastes
        self.items = query.catalogue.items
        self.as_of_ms, self.as_of_s = as_of_ms, as_of_ms // 1000
        self.ring = self.user.engagements()
        self.seen = self.user.seen_items()
        self.week = [max(0, count) for count in self.user.rings.d1.window(as_of_ms)]
        self.followed_authors = set(self.user.edges("follow", "author"))
        self.followed_topics = {fp & MASK32 for fp in self.user.edges("follow", "topic")}

    def weight(self, entry: Engagement) -> int:
        """What an entry of the ring still counts."""
        age = max(0, self.as_of_s - entry.at_s)
        return entry.verb.affinity * exp2_fixed(-(age * GRID // entry.verb.half_life_s)) * entry.sign

    @cached_property
    def authors(self) -> dict[int, Interest]:
        """By fp32."""
        keys = [[self.items[e.item].author32] if e.item in self.items else [] for e in self.ring]
        return self._interests(self.tastes.authors, keys)

    @cached_property
    def topics(self) -> dict[int, Interest]:
        """By fp32."""
        keys = [[*self.items[e.item].topics32] if e.item in self.items else [] for e in self.ring]
        return self._interests(self.tastes.topics, keys)

    def _interests(self, weights: Weights, ring_keys: list[list[int]]) -> dict[int, Interest]:
        found: dict[int, Interest] = {}
        hours = max(0, self.as_of_s - self.tastes.merged_s) // 3600
        pos = {key: decay(p, hours, DECAY_POSITIVE) for key, (p, _) in weights.items()}
        neg = {key: decay(n, hours, DECAY_NEGATIVE) for key, (_, n) in weights.items()}
        for key in weights:
            found[key] = NO_INTEREST | {
                "long_pos": _lift(pos[key], AFFINITY_UNIT),
                "long_neg": _lift(neg[key], AFFINITY_UNIT),
                "long_share": pos[key] * GRID // max(1, sum(pos.values())),
            }
        sums: dict[int, list[int]] = {}
        for entry, keys in zip(self.ring, ring_keys, strict=True):
            for key in keys:
                both = sums.setdefault(key, [0, 0])
                if entry.verb.affinity > 0:
                    both[0] += self.weight(entry)
                else:
                    both[1] -= self.weight(entry)
        for key, (liked, disliked) in sums.items():
            short = {"short_pos": _lift(max(0, liked), GRID), "short_neg": _lift(max(0, disliked), GRID)}
            found[key] = found.get(key, NO_INTEREST) | short
        return found

    def standing(self, role: int) -> set[int]:
        """fp32 of the items with an entry of a role in the ring that no later one withdrew."""
        left: set[int] = set()
        for n, entry in enumerate(self.ring):
            later = self.ring[n + 1 :]
            withdrawn = any(e.undo and e.verb.role == role and e.item == entry.item for e in later)
            if entry.verb.role == role and not entry.undo and not withdrawn:
                left.add(entry.item & MASK32)
        return left

    @cached_property
    def long_direction(self) -> list[int]:
        return direction(self.tastes.embedding)

    @cached_property
    def short_direction(self) -> list[int]:
        sums = [0] * EMBEDDING_DIM
        for entry in self.ring:
            item = self.items.get(entry.item)
            for d, value in enumerate(item.embedding or () if item else ()):
                sums[d] += self.weight(entry) * value
        return direction(sums)

    def seen_times(self, item_fp: int) -> int:
        return self.seen.get(item_fp & MASK32, (0, 0))[0]

    def seen_days(self, item_fp: int) -> int:
        """Days since the item was shown last, for one that was."""
        return max(0, self.as_of_ms // DAY_MS - self.seen[item_fp & MASK32][1])


def _lift(weight: int, unit: int) -> int:
    return log2_whole(weight + unit) - log2_whole(unit)
