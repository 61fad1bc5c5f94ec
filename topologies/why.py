"""Why a user's feed is as it is (7 to 10): every candidate with its source, rules, scores and contributions.

Made by ranking again from rows as they were; `same` says whether that gave the stored feed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.candidates import SOURCE_NAMES, Query, gather
from models.context import UserBatch
from models.contributions import Contributions, contributions
from models.features import FEATURE_NAMES, Scene, SceneFeatures
from models.item_index import ItemIndex
from models.learned.cascade import Cascade
from models.learned.scorers import Linear, Trees
from models.policy import Policy
from models.ranked_feed import RankedFeed
from models.ranker import Ranker, rounded
from models.rules import CHANGES, Ruled, apply_rules
from models.score import RateLift, Scorer
from models.tables import GRID
from streams.feed_heads import StoredFeed

F64 = NDArray[np.float64]
Model = RateLift | Linear | Trees


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate. `place`: in the feed, from 1; None: not there. `dropped_by`: the rule that did it;
    `lowered_by`: rules that lowered the score, from `score` to `ruled`. `explored`: drawn by chance, with
    `propensity`. `why`: the sentences of its entry. `features`: values in their own units; `adds`: by head,
    what each adds."""

    id: str
    place: int | None
    sources: tuple[str, ...]
    score: float
    ruled: float
    dropped_by: str | None
    lowered_by: tuple[str, ...]
    explored: bool
    propensity: float | None
    why: tuple[str, ...]
    scored_by: str
    unit: str
    exact: bool
    features: Mapping[str, float]
    adds: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Why:
    """One user's feed: its candidates, those in the feed first, by place, then by score. `failed`: sources
    that raised an error."""

    model: str
    same: bool
    candidates: tuple[Candidate, ...]
    failed: Mapping[str, str]

    @property
    def dropped(self) -> dict[str, int]:
        """Candidates by the rule that dropped them."""
        found: dict[str, int] = {}
        for one in self.candidates:
            if one.dropped_by:
                found[one.dropped_by] = found.get(one.dropped_by, 0) + 1
        return found

    def of(self, item: str) -> Candidate | None:
        """One candidate; None: it was none."""
        return next((one for one in self.candidates if one.id == item), None)


def why(
    users: UserBatch, index: ItemIndex, policy: Policy, scorer: Scorer, surface: str, feed: StoredFeed
) -> Why:
    """Of one user (a batch of one) at a feed's version and time. Raises ValueError for `following`, which is
    by time."""
    if surface == "following":
        raise ValueError("following is by time: the newest item of a followed author comes first")
    again = Ranker(policy, index, int(policy.hash, 16), scorer).rank(
        users, surface, [feed.version], feed.as_of_ms
    )[0]
    seeds = np.array([again.seed], np.uint64)
    found = gather(Query(users, index, policy.verbs, policy.candidates, feed.as_of_ms, seeds))
    scene = Scene(users, found, index, policy.verbs, feed.as_of_ms)
    features = SceneFeatures(scene)
    score = scorer.score(features)
    ruled = apply_rules(scene, policy, policy.surfaces[surface].rules, score)
    real = np.flatnonzero(scene.real[0])
    planes = features.planes()[:, 0, real]
    told = _by_model(policy, scorer, features, planes, real)
    made = [
        _candidate(index, scene, again, ruled, score, int(at), planes[:, n], told[n])
        for n, at in enumerate(real.tolist())
    ]
    made.sort(key=lambda one: (one.place is None, one.place or 0, -one.ruled, one.id))
    stored = list(zip(feed.ids, feed.scores, strict=True))
    ids = [index.ids[item] for item in again.items.tolist()]
    same = list(zip(ids, again.scores.tolist(), strict=True)) == stored
    return Why(again.model, same, tuple(made), again.failed)


_Told = tuple[str, Contributions, int]
"""A model's name, contributions of some items, and the place of one among these."""


def _by_model(
    policy: Policy, scorer: Scorer, features: SceneFeatures, planes: F64, real: NDArray[np.int64]
) -> list[_Told]:
    """For each real candidate, by the model whose score it has."""
    parts: list[tuple[Model, NDArray[np.int64]]] = []
    if isinstance(scorer, Cascade):
        heavy = scorer.chosen(features)[0][real]
        parts = [(scorer.heavy, np.flatnonzero(heavy)), (scorer.light, np.flatnonzero(~heavy))]
    elif isinstance(scorer, Model):
        parts = [(scorer, np.arange(len(real)))]
    told: list[_Told | None] = [None] * len(real)
    for model, places in parts:
        if len(places):
            made = contributions(policy, model, planes[:, places])
            for n, place in enumerate(places.tolist()):
                told[place] = model.name, made, n
    return [one for one in told if one is not None]


def _candidate(
    index: ItemIndex,
    scene: Scene,
    again: RankedFeed,
    ruled: Ruled,
    score: F64,
    at: int,
    values: F64,
    told: _Told,
) -> Candidate:
    slot = int(scene.item[0, at])
    entry = np.flatnonzero(again.items == slot)
    place = int(entry[0]) if len(entry) else None
    model, made, n = told
    rule = int(ruled.rule[0, at])
    adds = {
        head: {name: float(v) for name, v in zip(FEATURE_NAMES, part[:, n], strict=True) if v}
        for head, part in zip(made.heads, made.values, strict=True)
    }
    drawn = place is not None and bool(again.explored[place])
    return Candidate(
        id=index.ids[slot],
        place=None if place is None else place + 1,
        sources=tuple(name for bit, name in enumerate(SOURCE_NAMES) if scene.sources[0, at] >> bit & 1),
        score=float(rounded(score[0, at])),
        ruled=float(rounded(ruled.score[0, at])),
        dropped_by=list(ruled.dropped)[rule - 1] if rule else None,
        lowered_by=tuple(c.name for bit, c in enumerate(CHANGES) if ruled.changed[0, at] >> bit & 1),
        explored=drawn,
        propensity=float(again.propensity[place]) if drawn and place is not None else None,
        why=() if place is None else again.why[place],
        scored_by=model,
        unit=made.unit,
        exact=made.exact,
        features={name: float(v) / GRID for name, v in zip(FEATURE_NAMES, values, strict=True)},
        adds=adds,
    )
