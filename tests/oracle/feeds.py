"""The whole job: events in, rows and feeds out (11)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.candidates import SOURCES, Candidate, Query, draw_seed
from tests.oracle.catalogue import Catalogue
from tests.oracle.features import Features, ItemFeatures, features_of
from tests.oracle.items import Items
from tests.oracle.numbers import partition_of
from tests.oracle.policy import STRONG, WEAK, policy_of
from tests.oracle.records import Activity, Item
from tests.oracle.rules import Ranked, Rules, explored, slate
from tests.oracle.score import score_of
from tests.oracle.tastes import Reader
from tests.oracle.users import User, Users
from tests.oracle.words import EXPLORED, FEATURE_WORDS, SOURCE_WORDS

SURFACES = ("for_you", "following")
FEED_TOPICS = 3
LIFT_MIN = 1 << 22


@dataclass
class Log:
    """Candidates by rule that dropped them and by source; by entry which rules lowered it, whether the slot
    explores, and the features (none for `following`)."""

    dropped: dict[str, int]
    candidates: dict[str, int]
    changed: list[list[str]]
    explored: list[bool]
    features: list[Features]
    chances: list[float] = field(default_factory=list)
    """Of the slots of a drawn slate, where the feed begins with one."""


@dataclass(frozen=True)
class Feed:
    """A head as Redis holds it: its fields, and the entries of its chunks. `log` is what only the served log
    tells."""

    head: dict[str, Any]
    entries: list[dict[str, Any]]
    log: Log


class World:
    """Feed it every good event in order (of one partition at least), then ask for rows, or settle it."""

    def __init__(self, policy_text: str, partitions: int) -> None:
        self.policy = policy_of(policy_text)
        self.items: dict[int, Item] = {}
        self.shards = [Users(self.policy) for _ in range(partitions)]
        self.statistics = Items(self.policy)

    def put(self, item: Item) -> None:
        self.items[item.fp] = item

    def remove(self, fp: int) -> None:
        self.items.pop(fp, None)

    def act(self, activity: Activity) -> None:
        if self.shard(activity.actor).apply(activity, self.items):
            self.statistics.apply(activity)

    def shard(self, user: str) -> Users:
        return self.shards[partition_of(user, len(self.shards))]

    def user_rows(self) -> dict[bytes, bytes]:
        """All that the changelog of user shards holds."""
        return dict(row for shard in self.shards for user in shard.users.values() for row in user.rows())

    def item_rows(self) -> dict[bytes, bytes]:
        return self.statistics.stored()

    def settled(self, as_of_ms: int, tick_ms: int, generation: int = 1) -> Settled:
        """Everything as of the first end of a tick that is not before `as_of_ms`."""
        return Settled(self, -(-as_of_ms // tick_ms), tick_ms, generation)


class Settled:
    """The feeds of one (tick, as_of)."""

    def __init__(self, world: World, tick: int, tick_ms: int, generation: int) -> None:
        self.world, self.policy, self.tick, self.as_of_ms = world, world.policy, tick, tick * tick_ms
        self.generation = generation
        self.catalogue = Catalogue(world.items, world.statistics.rows, tick, self.as_of_ms)
        self.known = ItemFeatures(self.catalogue, self.as_of_ms)

    def active(self) -> Iterator[User]:
        """Whoever gets feeds."""
        for shard in self.world.shards:
            for user in shard.users.values():
                if user.rings.newest_ms > self.as_of_ms - self.policy.active_ms:
                    yield user

    def feed(self, user: User, surface: str) -> Feed:
        position = self.world.shard(user.id).position
        version = f"{self.generation:06d}-{position:015d}-{self.tick:012d}-{self.as_of_ms:015d}"
        query = Query(user, self.catalogue, self.policy, draw_seed(self.policy.seed, user.id, version))
        entries, log = self._by_score(query) if surface == "for_you" else self._by_time(query)
        items = [entry.pop("item") for entry in entries]
        head = {
            "version": version,
            "generated_at": self.as_of_ms,
            "stale_after": self.as_of_ms + self.policy.stale_after_ms,
            "policy": self.policy.version,
            "model": self.policy.model,
            "count": len(entries),
        }
        if topics := _most_common_topics(items):
            head["topics"] = topics
        return Feed(head, entries, log)

    def _by_score(self, query: Query) -> tuple[list[dict[str, Any]], Log]:
        policy, candidates, reader = self.policy, query.gather(), Reader(query, self.as_of_ms)
        features = features_of(reader, candidates, self.known)
        ranked = [
            Ranked(c, place, score_of(values, policy))
            for place, (c, values) in enumerate(zip(candidates, features, strict=True))
        ]
        rules = Rules(reader, policy, "for_you")
        ranked = rules.apply(ranked)
        whole = sorted(ranked, key=lambda r: r.order)
        best = list(whole)
        draws = explored(ranked, best, query.seed, policy.explore_share["for_you"], policy.length)
        chances = slate(whole, draws, len(ranked), query.seed, policy, "author_diversity" in rules.names)
        if chances:
            best = whole[: len(draws)]
        told = [features[one.place] for one in best]
        entries = [
            self._entry(one.candidate, _millionths(one.score), self._why(one.candidate, draw, values))
            for one, draw, values in zip(best, draws, told, strict=True)
        ]
        log = _log(candidates, rules, best, draws, told)
        log.chances = chances
        return entries, log

    def _by_time(self, query: Query) -> tuple[list[dict[str, Any]], Log]:
        candidates, reader = query.following(), Reader(query, self.as_of_ms)
        rules = Rules(reader, self.policy, "following")
        ranked = rules.apply([Ranked(c, place, 0) for place, c in enumerate(candidates)])
        best, share = list(ranked), self.policy.explore_share["following"]
        draws = explored(ranked, best, query.seed, share, self.policy.length)
        words = [SOURCE_WORDS["in_network"]]
        entries = [self._entry(r.candidate, r.candidate.item.created_ms / 1000, words) for r in best]
        return entries, _log(candidates, rules, best, draws, [])

    def _entry(self, candidate: Candidate, score: float, why: list[str]) -> dict[str, Any]:
        item = candidate.item
        entry: dict[str, Any] = {"id": item.item_id, "author": item.author, "created_at": item.created_ms}
        if item.title is not None:
            entry["title"] = item.title
        if item.topics32:
            entry["topics"] = list(item.topics32.values())
        return entry | {"score": score, "source": _first_source(candidate), "why": why, "item": item}

    def _why(self, candidate: Candidate, draw: bool, features: Features) -> list[str]:
        sentences = [EXPLORED if draw else SOURCE_WORDS[_first_source(candidate)]]
        weak, strong = self.policy.weights[WEAK - 1], self.policy.weights[STRONG - 1]
        lifts = [
            ((weak.get(name, 0) + strong.get(name, 0)) * (features[name] - usual), words)
            for name, (words, usual) in FEATURE_WORDS.items()
        ]
        best = sorted(lifts, key=lambda lift: -lift[0])[:2]
        sentences += [words for lift, words in best if lift >= LIFT_MIN]
        return list(dict.fromkeys(sentences))


def _log(
    candidates: list[Candidate], rules: Rules, best: list[Ranked], draws: list[bool], told: list[Features]
) -> Log:
    proposed = {name: sum(c.sources >> bit & 1 for c in candidates) for bit, name in enumerate(SOURCES)}
    return Log(
        {name: count for name, count in rules.dropped.items() if count},
        {name: count for name, count in proposed.items() if count},
        [one.changed for one in best],
        draws,
        told,
    )


def _first_source(candidate: Candidate) -> str:
    return next(name for bit, name in enumerate(SOURCES) if candidate.sources >> bit & 1)


def _millionths(score: int) -> float:
    return ((score * 15_625 + (1 << 17)) >> 18) / 1_000_000


def _most_common_topics(items: list[Item]) -> list[str]:
    """The three topics that most entries carry; of equal ones the first by id."""
    counts: dict[str, int] = {}
    for item in items:
        for topic in item.topics32.values():
            counts[topic] = counts.get(topic, 0) + 1
    return sorted(counts, key=lambda topic: (-counts[topic], topic))[:FEED_TOPICS]
