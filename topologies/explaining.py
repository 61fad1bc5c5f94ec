"""Why an item stands elsewhere in another feed (8, 9): features of both sides at their feeds' coordinates.

Values come from where they are certain: the served log (`of_served`), or rows as they were (`of_rows`), which
are ranked again: `exact` says whether that gave the stored feed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.candidates import Query, gather
from models.context import UserBatch
from models.features import FEATURE_NAMES, FEATURES, Scene, compute
from models.item_index import ItemIndex
from models.policy import Policy
from models.ranker import Ranker
from models.tables import GRID
from models.verbs import Role
from streams.feed_heads import StoredFeed
from topologies.past import Served

F64 = NDArray[np.float64]
FOR_YOU = "for_you"
LIFT_MIN = 0.005
"""Doublings; less is not worth a word."""


@dataclass(frozen=True, slots=True)
class Known:
    """Features of one feed's items: float64[F] by item id, grid integers; `origin`: where they are from.

    `candidates`: they are of every candidate, so that an item without features was none. `exact`: ranking
    again gave the stored feed; None: the values are the log's own. `weights` float64[F] lift them to
    doublings, 0 where a model has none. `why_not`: for people, where nothing is known.
    """

    origin: str
    features: Mapping[str, F64] = field(default_factory=dict)
    candidates: bool = False
    exact: bool | None = None
    weights: F64 = field(default_factory=lambda: np.zeros(len(FEATURES)))
    why_not: str = ""

    @property
    def told(self) -> str:
        """Where the values are from, or why there are none."""
        if self.why_not:
            return f"features are not known: {self.why_not}"
        if self.exact is None:
            return f"features of {self.origin}"
        said = (
            "ranked again it is the stored feed" if self.exact else "ranked again it is NOT the stored feed"
        )
        return f"features of {self.origin}; {said}"


def unknown(why: str) -> Known:
    """Nothing is known."""
    return Known("", why_not=why)


def of_served(served: Served, policy: Policy | None) -> Known:
    """What the served log carries: features of some entries, or of all. `policy`: for weights, if at hand."""
    values = served.logged.astype(np.float64)
    if len(values) != len(FEATURES):
        return unknown(f"the served log holds {len(values)} features, this version has {len(FEATURES)}")
    features = {served.ids[entry]: values[:, at] for at, entry in enumerate(served.featured.tolist())}
    return Known("the served log", features, weights=lift_weights(policy))


def of_rows(
    users: UserBatch, index: ItemIndex, policy: Policy, surface: str, feed: StoredFeed, origin: str
) -> Known:
    """From one user's rows and the items as they were at the feed's coordinates."""
    if surface != FOR_YOU:
        return unknown(f"{surface} is not ranked by features")
    ranker = Ranker(policy, index, int(policy.hash, 16))
    if ranker.scorer.name != feed.model:
        return unknown(f"it was ranked by model {feed.model}, which is not at hand")
    again = ranker.rank(users, surface, [feed.version], feed.as_of_ms)[0]
    stored = list(zip(feed.ids, feed.scores, strict=True))
    ids = [index.ids[item] for item in again.items.tolist()]
    exact = list(zip(ids, again.scores.tolist(), strict=True)) == stored
    seeds = np.array([again.seed], np.uint64)
    found = gather(Query(users, index, policy.verbs, policy.candidates, feed.as_of_ms, seeds))
    planes = compute(Scene(users, found, index, policy.verbs, feed.as_of_ms))[:, 0]
    slots = found.item[0].tolist()
    features = {index.ids[slot]: planes[:, at] for at, slot in enumerate(slots) if slot >= 0}
    return Known(origin, features, True, exact, lift_weights(policy))


def lift_weights(policy: Policy | None) -> F64:
    """float64[F]: doublings of weak and strong per unit of each feature, summed; zeros without a policy."""
    weights = np.zeros(len(FEATURES))
    for head in (Role.WEAK, Role.STRONG) if policy else ():
        for name, weight in policy.weights[head].items() if policy else ():
            weights[FEATURE_NAMES.index(name)] += weight / GRID
    return weights


@dataclass(frozen=True, slots=True)
class Moved:
    """A feature of an item that moved it: its values (natural units), and by how much more than others' it
    changed the item's lift (doublings of the rates of weak and strong engagement): what changes all items
    alike moves none."""

    feature: str
    before: float
    after: float
    lift: float


def usual_lift(before: Known, after: Known) -> F64:
    """float64[F]: the mean change of lift over the items whose features are known on both sides."""
    both = before.features.keys() & after.features.keys()
    if not both:
        return np.zeros(len(FEATURES))
    changes = [_lift(before, after, item) for item in sorted(both)]
    return np.mean(changes, axis=0)  # type: ignore[no-any-return]


def moved_features(before: Known, after: Known, usual: F64, item: str, most: int) -> list[Moved] | None:
    """The features that moved the item most, by lift beyond `usual`, then by size; None where a side's are
    not known."""
    a, b = before.features.get(item), after.features.get(item)
    if a is None or b is None:
        return None
    lift, size = _lift(before, after, item) - usual, np.abs(b - a)
    order = np.lexsort((np.arange(len(lift)), -size, -np.abs(lift)))
    return [
        Moved(FEATURE_NAMES[row], float(a[row]) / GRID, float(b[row]) / GRID, float(lift[row]))
        for row in order[:most].tolist()
        if abs(lift[row]) >= LIFT_MIN or size[row]
    ]


def _lift(before: Known, after: Known, item: str) -> F64:
    return (after.features[item] * after.weights - before.features[item] * before.weights) / GRID


def candidacy(known: Known, item: str) -> bool | None:
    """Whether the item was a candidate; None: not known."""
    if item in known.features:
        return True
    return False if known.candidates else None
