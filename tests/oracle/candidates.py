"""Candidates (7): what each source proposes to a user, and how proposals are merged (docs/candidates.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from tests.oracle.catalogue import Catalogue
from tests.oracle.merge import Tastes
from tests.oracle.numbers import HOUR_MS, MASK32, MASK64, clip, fp48, fp64, splitmix64
from tests.oracle.policy import STRONG, Policy
from tests.oracle.records import Item
from tests.oracle.users import User

SOURCES = (
    "in_network", "embedding", "item_to_item", "social_proof", "trending", "topic_trending", "explore",
)  # fmt: skip
FOLLOWEES_MAX = 1_000
USER_TOPICS_MAX, TOPIC_FOLLOW_WEIGHT = 4, 4_096
SEEDS_MAX = 4
FOLLOWING_MAX = 400

Proposed = list[Item | None]


@dataclass(frozen=True)
class Candidate:
    item: Item
    sources: int


def draw_seed(seed: int, user: str, version: str) -> int:
    return splitmix64(splitmix64(fp64(user) ^ splitmix64(seed)) ^ fp64(version))


def direction(vector: Iterable[int]) -> list[int]:
    """Scaled to -127..127."""
    values = list(vector)
    most = max(map(abs, values))
    return [(1 if v > 0 else -1) * (abs(v) * 127 // most) if v else 0 for v in values]


def dot(a: Iterable[int], b: Iterable[int]) -> int:
    return sum(x * y for x, y in zip(a, b, strict=True))


class Query:
    """One user, one feed."""

    def __init__(self, user: User, catalogue: Catalogue, policy: Policy, seed: int) -> None:
        self.user, self.catalogue, self.policy, self.seed = user, catalogue, policy, seed
        self.user48 = fp48(user.id)
        self.tastes: Tastes = user.tastes_now(catalogue.items)

    def gather(self) -> list[Candidate]:
        """The candidates of the surface `for_you`."""
        lists: list[tuple[int, Proposed, int]] = []
        for bit, name in enumerate(SOURCES):
            if name in self.policy.sources:
                quota, reach = self.policy.sources[name]
                proposed: Proposed = getattr(self, name)(reach)
                lists.append((bit, proposed[:reach], quota))
        written = [item for _, proposed, quota in lists for item in proposed[:quota]]
        written += [item for _, proposed, quota in lists for item in proposed[quota:]]
        masks: dict[int, int] = {}
        for bit, proposed, _ in lists:
            for item in proposed:
                if item is not None:
                    masks[item.fp] = masks.get(item.fp, 0) | 1 << bit
        first = dict.fromkeys(item.fp for item in written if item is not None)
        return [Candidate(self.catalogue.items[fp], masks[fp]) for fp in list(first)[: self.policy.count]]

    def following(self) -> list[Candidate]:
        """Those of the surface `following`."""
        return [Candidate(item, 1) for item in self._followed(FOLLOWING_MAX, by_time=True) if item]

    # -- what several sources read ---------------------------------------------------------------------

    @cached_property
    def follows(self) -> list[int]:
        return self.user.edges("follow", "author")

    @cached_property
    def topics(self) -> list[int]:
        """fp32 of the user's topics, best first."""
        weights = {topic: pos - neg for topic, (pos, neg) in self.tastes.topics.items()}
        for followed in self.user.edges("follow", "topic"):
            topic = followed & MASK32
            weights[topic] = weights.get(topic, 0) + TOPIC_FOLLOW_WEIGHT
        liked = [t for t, weight in weights.items() if weight > 0 and t in self.catalogue.by_topic]
        return sorted(liked, key=lambda t: (-weights[t], t))[:USER_TOPICS_MAX]

    def affinity(self, author48: int) -> int:
        pos, neg = self.tastes.authors.get(author48 & MASK32, (0, 0))
        return pos - neg

    # -- the sources -----------------------------------------------------------------------------------

    def in_network(self, reach: int) -> Proposed:
        return self._followed(reach, by_time=False)

    def _followed(self, reach: int, by_time: bool) -> Proposed:
        by_author = self.catalogue.by_author
        known = [author for author in self.follows if author in by_author]
        if len(known) > FOLLOWEES_MAX:
            best = sorted(known, key=lambda a: (-self.affinity(a), -by_author[a][0].created_ms))
            chosen = set(best[:FOLLOWEES_MAX])
            known = [author for author in known if author in chosen]
        each = clip(1_000 // max(len(known), 1), 2, 20)
        keyed = []
        for i, author in enumerate(known):
            boost = 0 if by_time else HOUR_MS * clip(self.affinity(author) >> 8, 0, 48)
            keyed += [(-(x.created_ms + boost), i, j, x) for j, x in enumerate(by_author[author][:each])]
        return [item for _, _, _, item in sorted(keyed, key=lambda k: k[:3])[:reach]]

    def embedding(self, reach: int) -> Proposed:
        q, scan = direction(self.tastes.embedding), []
        for r, topic in enumerate(self.topics):
            for j, item in enumerate(self.catalogue.by_topic[topic][: self.policy.cell_items]):
                near = dot(q, item.embedding) if item.embedding else 0
                scan.append((-near, 4 * j + r, item))
        return [item for _, _, item in sorted(scan, key=lambda one: one[:2])[:reach]]

    def item_to_item(self, reach: int) -> Proposed:
        seeds: list[int] = []
        settled: set[int] = set()
        for entry in reversed(self.user.engagements()):
            strong = entry.verb.role == STRONG
            if strong and not entry.undo and entry.item not in settled:
                seeds.append(entry.item)
            if strong or entry.undo:
                settled.add(entry.item)
        seeds = seeds[:SEEDS_MAX]
        named: Counter[int] = Counter()
        for seed in seeds:
            if seed in self.catalogue.items:
                for engager, _ in self.catalogue.derived[seed].engagers:
                    if engager != self.user48:
                        named.update(item.fp for item in self.catalogue.engaged.get(engager, []))
        return self._most_named(named, reach, without=seeds)

    def social_proof(self, reach: int) -> Proposed:
        engaged = self.catalogue.engaged
        friends = [followee for followee in self.follows if followee in engaged]
        each = clip(500 // max(len(friends), 1), 1, 8)
        named = Counter(item.fp for friend in friends for item in engaged[friend][:each])
        return self._most_named(named, reach)

    def _most_named(self, named: Counter[int], reach: int, without: Iterable[int] = ()) -> Proposed:
        left = [fp for fp in named if fp not in set(without)]
        left.sort(key=lambda fp: (-named[fp], self.catalogue.engaged_place[fp]))
        return [self.catalogue.items[fp] for fp in left[:reach]]

    def trending(self, reach: int) -> Proposed:
        return [*self.catalogue.trending[:reach]]

    def topic_trending(self, reach: int) -> Proposed:
        lists = [self.catalogue.topic_trending.get(topic, []) for topic in self.topics]
        lists += [[]] * (USER_TOPICS_MAX - len(lists))
        places = [divmod(place, USER_TOPICS_MAX) for place in range(reach)]
        return [lists[r][j] if j < len(lists[r]) else None for j, r in places]

    def explore(self, reach: int) -> Proposed:
        pool = self.catalogue.explore
        if not pool:
            return []
        draws = [splitmix64((self.seed + k + 1) & MASK64) >> 32 for k in range(reach)]
        return [pool[draw * len(pool) >> 32] for draw in draws]
