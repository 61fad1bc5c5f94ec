"""Affinities: what the ring of engagements makes of a user's authors, topics and interest (docs/state.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.oracle.numbers import DECAY_NEGATIVE, DECAY_POSITIVE, clip, decay
from tests.oracle.policy import Verb
from tests.oracle.records import EMBEDDING_DIM, Item

AUTHORS, TOPICS, RING = 24, 16, 16
WEIGHT_MAX = 1 << 30

Weights = dict[int, tuple[int, int]]
"""fp32 -> (pos, neg), in the order that rows have."""


@dataclass(frozen=True)
class Engagement:
    """One entry of the ring. `verb`: the undone one for an undo."""

    item: int
    at_s: int
    verb: Verb
    undo: bool

    @property
    def sign(self) -> int:
        return -1 if self.undo else 1


@dataclass(frozen=True)
class Tastes:
    """The part of a row that merges change."""

    merged_s: int = 0
    authors: Weights = field(default_factory=dict)
    topics: Weights = field(default_factory=dict)
    embedding: tuple[int, ...] = (0,) * EMBEDDING_DIM


def merged(tastes: Tastes, entries: Sequence[Engagement], items: Mapping[int, Item]) -> Tastes:
    """`tastes` after a merge of some entries; `items`: the live ones by fp64."""
    if not entries:
        return tastes
    now = max(tastes.merged_s, *(e.at_s for e in entries))
    hours = (now - tastes.merged_s) // 3600
    authors, topics = _decayed(tastes.authors, hours), _decayed(tastes.topics, hours)
    sums = [0] * EMBEDDING_DIM
    for entry in entries:
        item, affinity = items.get(entry.item), entry.verb.affinity
        if item is None:
            continue
        age = (now - entry.at_s) // 3600
        pos = entry.sign * decay(max(affinity, 0) * 256, age, DECAY_POSITIVE)
        neg = entry.sign * decay(max(-affinity, 0) * 256, age, DECAY_NEGATIVE)
        for weights, keys in ((authors, [item.author32]), (topics, [*item.topics32])):
            for key in keys:
                if key:
                    before = weights.get(key, (0, 0))
                    weights[key] = before[0] + pos, before[1] + neg
        for d, value in enumerate(item.embedding or ()):
            sums[d] += affinity * entry.sign * value
    embedding = [
        clip(e + (s >> 4) - (e >> 3), -32768, 32767) for e, s in zip(tastes.embedding, sums, strict=True)
    ]
    return Tastes(now, _largest(authors, AUTHORS), _largest(topics, TOPICS), tuple(embedding))


def _decayed(weights: Weights, hours: int) -> Weights:
    return {
        key: (decay(pos, hours, DECAY_POSITIVE), decay(neg, hours, DECAY_NEGATIVE))
        for key, (pos, neg) in weights.items()
    }


def _largest(weights: Weights, count: int) -> Weights:
    clipped = {k: (clip(p, 0, WEIGHT_MAX), clip(n, 0, WEIGHT_MAX)) for k, (p, n) in weights.items()}
    kept = [(key, pair) for key, pair in clipped.items() if sum(pair)]
    kept.sort(key=lambda one: (-sum(one[1]), one[0]))
    return dict(kept[:count])
