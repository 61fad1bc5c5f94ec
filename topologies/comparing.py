"""Feeds of two namespaces beside each other, user by user (after 11): what changed, for whom most.

found = compare(old, new, users, Measures(ks=(10, 50), p=0.9), moved)
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.evaluation.agreement import Pairs
from streams.feed_heads import StoredFeed
from wire.names import Namespace
from wire.route import point

F64 = NDArray[np.float64]

USERS_AT_ONCE = 500
DEPTHS = 100


class FeedStore(Protocol):
    """Where feeds of a namespace lie: in Redis or on disk."""

    def users(self, names: Namespace, surface: str) -> Iterator[str]: ...
    def read(self, names: Namespace, surface: str, users: Sequence[str]) -> list[StoredFeed | None]: ...


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: the feeds of a namespace on a surface."""

    names: Namespace
    surface: str
    store: FeedStore

    def users(self) -> set[str]:
        """Everyone who has a feed; memory for their ids."""
        return set(self.store.users(self.names, self.surface))

    def read(self, users: Sequence[str]) -> list[StoredFeed | None]:
        """Their feeds; None where there is none (any more)."""
        return self.store.read(self.names, self.surface, users)


@dataclass(frozen=True, slots=True)
class Measures:
    """`ks`: how deep overlaps look, the first one decides ties; `p`: persistence of rank-biased overlap;
    `most`: how many of the most changed users to keep."""

    ks: tuple[int, ...] = (10, 50)
    p: float = 0.9
    most: int = 10


@dataclass(frozen=True, slots=True)
class UserChange:
    """One user's two feeds; `overlap` by k."""

    before: StoredFeed
    after: StoredFeed
    rank_biased: float
    tau: float
    overlap: dict[int, float]

    @property
    def user(self) -> str:
        return self.before.user

    @property
    def entered(self) -> list[str]:
        """Items that only the second feed holds, best first."""
        held = set(self.before.ids)
        return [item for item in self.after.ids if item not in held]

    @property
    def left(self) -> list[str]:
        """Items that only the first feed holds, best first."""
        held = set(self.after.ids)
        return [item for item in self.before.ids if item not in held]


@dataclass(slots=True)
class Comparison:
    """Of the users whom both sides have: float64[U] each, in `values` by name; `most`: the most changed.

    `equal`: users whose feeds are the same items and scores in the same order; `same_time`: ranked for the
    same moment. `entered`, `left`: in how many feeds an item came and went. `by_depth` float64[U, DEPTHS].
    """

    measures: Measures
    users: int = 0
    empty: int = 0
    gone: int = 0
    equal: int = 0
    same_time: int = 0
    entered: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    titles: dict[str, str | None] = field(default_factory=dict)
    policies: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))
    models: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))
    values: dict[str, F64] = field(default_factory=dict)
    by_depth: F64 = field(default_factory=lambda: np.zeros((0, DEPTHS)))
    most: list[UserChange] = field(default_factory=list)


def sampled(users: Iterable[str], size: int, seed: int) -> list[str]:
    """`size` users (0: all), the same for the same users and seed in whatever order they come; sorted.

    >>> sampled(["ann", "bob", "cy"], 1, seed=2) == sampled(["cy", "bob", "ann"], 1, seed=2)
    True
    """
    if not size:
        return sorted(users)
    return sorted(heapq.nsmallest(size, users, key=lambda user: (point(f"diff-{seed}", user), user)))


def compare(
    old: Side, new: Side, users: Sequence[str], measures: Measures, moved: Callable[[int], None]
) -> Comparison:
    """Compare the feeds of `users`; who lost one meanwhile counts as `gone`. `moved` hears how many are done.

    Raises ValueError for what is no feed.
    """
    found = Comparison(measures)
    parts: list[dict[str, F64]] = []
    depths: list[F64] = []
    for start in range(0, len(users), USERS_AT_ONCE):
        some = users[start : start + USERS_AT_ONCE]
        read = zip(old.read(some), new.read(some), strict=True)
        both = [(a, b) for a, b in read if a is not None and b is not None]
        found.gone += len(some) - len(both)
        found.empty += sum(not a.ids and not b.ids for a, b in both)
        both = [(a, b) for a, b in both if a.ids or b.ids]
        if both:
            values, by_depth = _measured(both, measures)
            parts.append(values)
            depths.append(by_depth)
            _count(found, both)
            _keep_most(found, both, values)
        moved(len(some))
    if parts:
        found.values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        found.by_depth = np.concatenate(depths)
    return found


def _measured(
    both: Sequence[tuple[StoredFeed, StoredFeed]], measures: Measures
) -> tuple[dict[str, F64], F64]:
    pairs = Pairs.of([a.ids for a, _ in both], [b.ids for _, b in both])
    values = {f"overlap@{k}": pairs.overlap(k) for k in measures.ks}
    values["rank_biased"] = pairs.rank_biased(measures.p)
    values["tau"] = pairs.tau()
    values["entered"] = (pairs.size_b - pairs.common).astype(np.float64)
    values["left"] = (pairs.size_a - pairs.common).astype(np.float64)
    change = np.array(
        [
            both[user][1].scores[b] - both[user][0].scores[a]
            for user, a, b in zip(
                pairs.user.tolist(), pairs.place_a.tolist(), pairs.place_b.tolist(), strict=True
            )
        ],
        np.float64,
    )
    counted = np.maximum(pairs.common, 1)
    for name, column in (("score_change", change), ("score_change_size", np.abs(change))):
        mean = np.bincount(pairs.user, column, len(pairs)) / counted
        values[name] = np.where(pairs.common > 0, mean, np.nan)
    longest = np.maximum(pairs.size_a, pairs.size_b)[:, None]
    depth = np.arange(1, DEPTHS + 1)
    shares = pairs.overlaps(DEPTHS) / np.minimum(depth, np.maximum(longest, 1))
    return values, np.where(depth <= longest, shares, np.nan)


def _count(found: Comparison, both: Sequence[tuple[StoredFeed, StoredFeed]]) -> None:
    for a, b in both:
        before, after = set(a.ids), set(b.ids)
        found.users += 1
        found.equal += (a.ids, a.scores) == (b.ids, b.scores)
        found.same_time += a.as_of_ms == b.as_of_ms
        found.entered.update(after - before)
        found.left.update(before - after)
        for feed in (a, b):
            found.titles.update(zip(feed.ids, feed.titles, strict=True))
        for side, feed in enumerate((a, b)):
            found.policies[side][feed.policy] += 1
            found.models[side][feed.model] += 1


def _keep_most(
    found: Comparison, both: Sequence[tuple[StoredFeed, StoredFeed]], values: dict[str, F64]
) -> None:
    ks = found.measures.ks
    held = [
        UserChange(
            a,
            b,
            float(values["rank_biased"][i]),
            float(values["tau"][i]),
            {k: float(values[f"overlap@{k}"][i]) for k in ks},
        )
        for i, (a, b) in enumerate(both)
        if a.ids != b.ids
    ]
    found.most = sorted(
        [*found.most, *held], key=lambda one: (one.rank_biased, one.overlap[ks[0]], one.user)
    )[: found.measures.most]
