"""What the sources of candidates (7) are asked: a slice of users, the item index, limits and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.fingerprint import FP32, FP48, fp64
from models.graph import KIND_TOPIC, GraphRow
from models.item_index import ItemIndex
from models.lookups import Edges, Lookups
from models.verbs import VerbTable

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Rows = NDArray[np.void]

USERS_MAX = 64
FOLLOWEES_MAX = 1_000
ITEMS_PER_FOLLOWEE_MAX = 20
ITEMS_PER_FOLLOWEE_MIN = 2
IN_NETWORK_SCAN_MAX = 1_000
CELL_SCAN_MAX = 4_000
USER_TOPICS_MAX = 4
TOPIC_FOLLOW_WEIGHT = 16 * 256
"""A followed topic counts like 16 units of a verb's affinity."""


class Users(Protocol):
    """What the sources read of U users (models.context.UserBatch has it)."""

    @property
    def fp(self) -> U64: ...
    @property
    def rows(self) -> Rows:
        """USER_ROW[U] as stored: the engagement ring is read from it."""
        ...

    @property
    def merged(self) -> Rows:
        """USER_ROW[U] with the ring merged: affinities and the embedding are read from it."""
        ...

    @property
    def graph(self) -> Sequence[GraphRow]: ...


_FP32 = (1 << 32) - 1


class SourceLimit(NamedTuple):
    """`quota`: candidates that a source may put first. `reach`: how many it proposes at most; those beyond
    the quota fill what other sources leave empty."""

    quota: int
    reach: int


def _default_sources() -> dict[str, SourceLimit]:
    return {
        "in_network": SourceLimit(160, 320),
        "embedding": SourceLimit(80, 120),
        "item_to_item": SourceLimit(50, 70),
        "social_proof": SourceLimit(40, 60),
        "trending": SourceLimit(20, 60),
        "topic_trending": SourceLimit(30, 40),
        "explore": SourceLimit(20, 30),
    }


@dataclass(frozen=True, slots=True)
class CandidateLimits:
    """How many candidates a feed is ranked from, and how many each source may give.

    A source that `sources` does not name is switched off. `cell_items`: newest items scanned per topic.
    Raises ValueError where a limit is outside its range.
    """

    candidates: int = 400
    cell_items: int = 128
    sources: Mapping[str, SourceLimit] = field(default_factory=_default_sources)

    def __post_init__(self) -> None:
        if not 1 <= self.candidates <= 2_000:
            raise ValueError(f"candidates = {self.candidates} is outside 1..2000; correct the policy")
        if not 1 <= self.cell_items * USER_TOPICS_MAX <= CELL_SCAN_MAX:
            raise ValueError(f"cell_items = {self.cell_items} is outside 1..1000; correct the policy")
        for name, (quota, reach) in self.sources.items():
            if not 0 <= quota <= reach <= 1_000:
                raise ValueError(f"{name}: 0 <= quota <= reach <= 1000 does not hold; correct the policy")


class Query:
    """One slice of 1 to USERS_MAX users. What several sources need is worked out once."""

    def __init__(
        self,
        users: Users,
        index: ItemIndex,
        verbs: VerbTable,
        limits: CandidateLimits,
        as_of_ms: int,
        seeds: U64,
    ) -> None:
        self.users, self.index, self.verbs, self.limits = users, index, verbs, limits
        self.as_of_ms, self.seeds = as_of_ms, seeds

    def __len__(self) -> int:
        return len(self.users.fp)

    @cached_property
    def lookups(self) -> Lookups:
        """What the users have to do with the index."""
        return Lookups(self.users, self.index)

    @cached_property
    def topics(self) -> I32:
        """int32[U, 4]: the topics (with live items) that each user likes most, -1 = fewer.

        By (weight desc, fp32 asc); weight > 0 is the positive minus the negative affinity, and
        TOPIC_FOLLOW_WEIGHT more where the topic is followed.
        """
        rows = self.users.merged
        fp32 = rows["topic_fp"].astype(np.int64)
        weight = rows["topic_pos"].astype(np.int64) - rows["topic_neg"]
        fp32, weight = _with_followed(fp32, weight, self.lookups.edges("follows", KIND_TOPIC))
        number = self.index.by_topic.get(fp32.ravel().astype(np.uint64)).reshape(fp32.shape)
        keys = np.where((weight > 0) & (number >= 0), (weight << 32) | (_FP32 - fp32), -1)
        order = (-keys).argsort(axis=1)[:, :USER_TOPICS_MAX]
        order += np.arange(len(keys))[:, None] * keys.shape[1]
        return np.where(keys.take(order) >= 0, number.take(order), np.int32(-1))


def padded(user: I64, values: I32, users: int) -> tuple[I32, I64]:
    """m values of users (int64[m], ascending) as int32[users, most] in the same order, -1 after the last; and
    how many each has, int64[users]."""
    count = np.bincount(user, minlength=users)
    rows = np.full((users, int(count.max())), -1, np.int32)
    rows[np.arange(rows.shape[1]) < count[:, None]] = values
    return rows, count


def _with_followed(fp32: I64, weight: I64, followed: Edges) -> tuple[I64, I64]:
    """Add the weight of followed topics, in columns of their own where the row does not have the topic."""
    user, topic = followed.user, (followed.fp48 & FP32).astype(np.int64)
    if not len(user):
        return fp32, weight
    edge, at = (fp32.take(user, axis=0) == topic[:, None]).nonzero()
    np.add.at(weight, (user[edge], at), TOPIC_FOLLOW_WEIGHT)
    new = np.ones(len(user), np.bool_)
    new[edge] = False
    column = new.nonzero()[0]
    more = np.zeros((2, len(fp32), len(column)), np.int64)
    more[0, user[column], np.arange(len(column))] = topic[column]
    more[1, user[column], np.arange(len(column))] = TOPIC_FOLLOW_WEIGHT
    return np.hstack([fp32, more[0]]), np.hstack([weight, more[1]])


def draw_seeds(seed: int, user_fps: U64, versions: Sequence[str]) -> U64:
    """uint64[U]: one seed per feed, from the namespace's seed, the user and the feed's version."""
    namespace = splitmix64(np.array([seed & (1 << 64) - 1], np.uint64))
    version = np.array([fp64(version.encode()) for version in versions], np.uint64)
    return splitmix64(splitmix64(user_fps ^ namespace) ^ version)


def splitmix64(x: U64) -> U64:
    """One step of SplitMix64 from state x (Steele, Lea, Flood, OOPSLA 2014), elementwise."""
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def low48(fps: U64) -> U64:
    """The part of a fingerprint that edges hold."""
    return fps & FP48
