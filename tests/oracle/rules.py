"""Order, rules, exploration (10, docs/ranking.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from tests.oracle.candidates import Candidate
from tests.oracle.numbers import GRID, MASK32, MASK48, exp2_fixed, fp48, splitmix64
from tests.oracle.policy import NEGATIVE, Policy
from tests.oracle.score import SCORE_MAX
from tests.oracle.tastes import Reader

DROPS = ("own", "future", "too_old", "hidden", "seen", "blocked", "muted", "keyword", "duplicate")
CHANGES = ("fatigue", "out_of_network", "author_diversity")
FATIGUE_TIMES_MAX = 64
EXPLORE_STREAM = 0x6578706C6F7265
SLATE_STREAM = 0x736C61746573


@dataclass
class Ranked:
    """A candidate on its way into the feed. `place`: among the candidates as they were gathered."""

    candidate: Candidate
    place: int
    score: int
    changed: list[str] = field(default_factory=list)
    undiverse: int = 0
    """The score before author diversity."""

    @property
    def order(self) -> tuple[int, int, int]:
        """Smallest first."""
        return -self.score, self.candidate.item.fp >> 43, self.place


class Rules:
    """The rules of one surface for one user."""

    def __init__(self, reader: Reader, policy: Policy, surface: str) -> None:
        self.reader, self.policy, self.names = reader, policy, policy.rules[surface]
        self.hidden = reader.standing(NEGATIVE)
        self.dropped: dict[str, int] = {}

    def apply(self, ranked: list[Ranked]) -> list[Ranked]:
        """What may be shown, in the order of places, with changed scores."""
        for name in DROPS:
            if name in self.names:
                before = len(ranked)
                ranked = self._left_by(name, ranked)
                self.dropped[name] = before - len(ranked)
        for name in CHANGES:
            if name == "author_diversity":
                for one in ranked:
                    one.undiverse = one.score
            if name in self.names:
                factors = self._factors(name, ranked)
                for one, factor in zip(ranked, factors, strict=True):
                    one.score = _weakened(one.score, factor)
                    if factor != GRID:
                        one.changed.append(name)
        return ranked

    def _left_by(self, name: str, ranked: list[Ranked]) -> list[Ranked]:
        if name == "duplicate":
            return self._without_duplicates(ranked)
        return [one for one in ranked if not self._drops(name, one)]

    def _drops(self, name: str, one: Ranked) -> bool:
        item, reader = one.candidate.item, self.reader
        if name == "own":
            return item.author48 == fp48(reader.user.id)
        if name == "future":
            return item.created_ms > reader.as_of_ms
        if name == "too_old":
            return item.created_ms < reader.as_of_ms - self.policy.item_age_ms_max
        if name == "hidden":
            return item.fp & MASK32 in self.hidden
        if name == "seen":
            return reader.seen_times(item.fp) >= self.policy.seen_times_max
        if name in ("blocked", "muted"):
            act = "block" if name == "blocked" else "mute"
            topics = {fp & MASK32 for fp in reader.user.edges(act, "topic")}
            return item.author48 in reader.user.edges(act, "author") or bool(topics & item.topics32.keys())
        assert name == "keyword"
        keywords = {*reader.user.edges("mute", "keyword"), *reader.user.edges("block", "keyword")}
        return bool(keywords) and not keywords.isdisjoint(_words(item.title or ""))

    @staticmethod
    def _without_duplicates(ranked: list[Ranked]) -> list[Ranked]:
        kept: dict[object, Ranked] = {}
        for one in sorted(ranked, key=lambda r: r.order):
            item = one.candidate.item
            kept.setdefault((item.author48, item.title) if item.title else item.fp, one)
        return sorted(kept.values(), key=lambda r: r.place)

    def _factors(self, name: str, ranked: list[Ranked]) -> list[int]:
        policy, reader = self.policy, self.reader
        if name == "fatigue":
            times = [min(reader.seen_times(r.candidate.item.fp), FATIGUE_TIMES_MAX) for r in ranked]
            return [_fallen(policy.fatigue, 0, k) for k in times]
        if name == "out_of_network":
            followed = [r.candidate.item.author48 in reader.followed_authors for r in ranked]
            return [GRID if one else policy.out_of_network for one in followed]
        before: dict[int, int] = {}
        factors: dict[int, int] = {}
        for one in sorted(ranked, key=lambda r: r.order):
            author = one.candidate.item.author48
            k = before[author] = before.get(author, -1) + 1
            factors[one.place] = _fallen(policy.diversity_decay, policy.diversity_floor, k)
        return [factors[one.place] for one in ranked]


def explored(ranked: list[Ranked], best: list[Ranked], seed: int, share: Fraction, length: int) -> list[bool]:
    """Put draws from `ranked` (in the order of places) into the slots of `best`; which slots are draws."""
    stream, count = splitmix64(seed ^ EXPLORE_STREAM), min(length, len(ranked))
    pool, drawn = list(ranked), {}
    for slot in range(count):
        decides = splitmix64(stream + 2 * slot) >> 32
        if decides < round(share * (1 << 32)):
            at = (splitmix64(stream + 2 * slot + 1) >> 32) * len(pool) >> 32
            drawn[slot] = pool[at]
            last = pool.pop()
            if at < len(pool):
                pool[at] = last
    taken = {one.place for one in drawn.values()}
    rest = (one for one in list(best) if one.place not in taken)
    best[:] = [drawn[slot] if slot in drawn else next(rest) for slot in range(count)]
    return [slot in drawn for slot in range(count)]


def slate(
    best: list[Ranked], explores: list[bool], pool: int, seed: int, policy: Policy, diverse: bool
) -> list[float]:
    """Where the feed begins with a drawn slate, put it into `best` (the whole ranking) and `explores`; the
    chances of its slots, each given those before."""
    stream, chances = splitmix64(seed ^ SLATE_STREAM), list[float]()
    if stream >> 32 >= round(policy.slate_share * (1 << 32)):
        return []
    left, taken = list(best[: min(policy.slate_pool, pool)]), list[Ranked]()
    for slot in range(min(policy.slate_slots, len(explores))):
        weights = _slate_weights(left, taken, policy, diverse)
        number = (splitmix64((stream + slot + 1) % (1 << 64)) >> 32) * sum(weights) >> 32
        at = next(k for k in range(len(left)) if sum(weights[: k + 1]) > number)
        chances.append(weights[at] / sum(weights))
        taken.append(left.pop(at))
    best[:] = taken + [one for one in best if one not in taken]
    explores[:] = [slot < len(taken) for slot in range(len(explores))]
    return chances


def _slate_weights(left: list[Ranked], taken: list[Ranked], policy: Policy, diverse: bool) -> list[int]:
    scores = []
    for one in left:
        k = sum(other.candidate.item.author48 == one.candidate.item.author48 for other in taken)
        factor = _fallen(policy.diversity_decay, policy.diversity_floor, k) if diverse else GRID
        scores.append(_weakened(one.undiverse, factor))
    unit = max(policy.slate_temperature * abs(max(scores)) // GRID, 1)
    behind = [(max(scores) - score) * GRID // unit for score in scores]
    return [max(exp2_fixed(12 * GRID - min(one, 64 * GRID)), 1) for one in behind]


def _words(title: str) -> set[int]:
    return {fp48(word) & MASK48 for word in re.findall(r"\w+", title.lower())}


def _weakened(score: int, factor: int) -> int:
    return max(score * (factor if score >= 0 else 2 * GRID - factor) // GRID, -SCORE_MAX)


def _fallen(decay: int, floor: int, times: int) -> int:
    power = GRID
    for _ in range(times):
        power = power * decay // GRID
    return (GRID - floor) * power // GRID + floor
