"""Ranker (7 to 10): users in, feeds out. A pure function of rows, graphs, index, policy, seed and `as_of`.

However users are grouped into slices, each one's feed is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.candidates import SOURCE_NAMES, Candidates, Query, draw_seeds, following, gather
from models.candidates.query import splitmix64
from models.context import UserBatch
from models.explain import first_source
from models.explaining import explainer_of
from models.explore import Slots, fill_slots
from models.features import Features, ItemMemo, Scene, SceneFeatures
from models.features.registry import FEATURES
from models.item_index import ItemIndex
from models.order import order, places, true_places
from models.policy import Policy
from models.ranked_feed import Emitted, RankedFeed
from models.rules import AUTHOR_DIVERSITY, Ruled, apply_rules, falling
from models.score import SCORE_BITS, RateLift, Scorer
from models.slate_rule import SLOTS_MAX
from models.slates import Scored, draw_slates
from models.tables import GRID

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FOLLOWING = "following"
SCORES_PER_UNIT = 1_000_000
"""Emitted scores are whole millionths."""

FEATURED_STREAM = np.uint64(0x6665617475726564)
"""'featured': chooses the users whose served log carries features."""


_HAS_BIT = np.arange(1 << len(SOURCE_NAMES))[:, None] >> np.arange(len(SOURCE_NAMES)) & 1


class Ranked(NamedTuple):
    """A slice after the last step: the n entries `emitted` with their scores and reasons, [n] each."""

    users: UserBatch
    query: Query
    surface: str
    versions: Sequence[str]
    candidates: Candidates
    ruled: Ruled
    emitted: Emitted
    scores: F64
    reasons: I64


class Ranker:
    """Ranks 1 to USERS_MAX users at once. `seed`: the namespace's; `scorer`: None = the default model."""

    def __init__(self, policy: Policy, index: ItemIndex, seed: int, scorer: Scorer | None = None) -> None:
        self.policy, self.index, self.seed = policy, index, seed
        self._memo = ItemMemo(index)
        self.use(scorer or RateLift(policy))

    def use(self, scorer: Scorer) -> None:
        """Rank, and explain, with another model from the next slice on."""
        self.scorer = scorer
        self.explainer = explainer_of(self.policy, scorer)

    def rank(
        self, users: UserBatch, surface: str, versions: Sequence[str], as_of_ms: int
    ) -> list[RankedFeed]:
        """One feed per user, in their order; `versions`: one per user.

        Raises ValueError for another surface, another number of versions, or no or over USERS_MAX users.
        """
        if surface not in self.policy.surfaces:
            raise ValueError(f"there is no surface {surface!r}; use one of {', '.join(self.policy.surfaces)}")
        if len(versions) != len(users):
            raise ValueError(f"{len(users)} users and {len(versions)} versions; give one each")
        seeds = draw_seeds(self.seed, users.fp, versions)
        query = Query(users, self.index, self.policy.verbs, self.policy.candidates, as_of_ms, seeds)
        if surface == FOLLOWING:
            return self._feeds(self._by_time(users, query, versions))
        return self._by_score(users, query, surface, versions)

    def _by_score(
        self, users: UserBatch, query: Query, surface: str, versions: Sequence[str]
    ) -> list[RankedFeed]:
        candidates = gather(query)
        scene = Scene(users, candidates, self.index, self.policy.verbs, query.as_of_ms, query.lookups)
        features = SceneFeatures(scene, self._memo)
        score = self.scorer.score(features)
        ruled = apply_rules(scene, self.policy, self.policy.surfaces[surface].rules, score)
        best = places(order(ruled.score, scene.tie, ruled.alive))
        slots = self._slots(query, surface, ruled, best)
        slots = draw_slates(
            slots, best, query.seeds, self.policy.surfaces[surface].slate, self._scored(scene, surface, ruled)
        )
        emitted = Emitted(scene, slots)
        scores = rounded(emitted.of(ruled.score))
        told = features.some(self.explainer.rows, emitted.flat)
        reasons = self.explainer.codes(
            emitted.of(scene.sources), emitted.of_slots(emitted.slots.explored), told, emitted.parts
        )
        ranked = Ranked(users, query, surface, versions, candidates, ruled, emitted, scores, reasons)
        return self._with_features(self._feeds(ranked), emitted, features)

    def _by_time(self, users: UserBatch, query: Query, versions: Sequence[str]) -> Ranked:
        candidates = following(query)
        scene = Scene(users, candidates, self.index, self.policy.verbs, query.as_of_ms, query.lookups)
        rules = self.policy.surfaces[FOLLOWING].rules
        ruled = apply_rules(scene, self.policy, rules, np.zeros(scene.shape))
        best = np.argsort(~ruled.alive, axis=1, kind="stable")  # candidates are newest first already
        emitted = Emitted(scene, self._slots(query, FOLLOWING, ruled, best))
        scores = emitted.of(scene.created_ms) / 1_000
        reasons = np.full(len(scores), self.explainer.code_of_source(0))
        return Ranked(users, query, FOLLOWING, versions, candidates, ruled, emitted, scores, reasons)

    def _slots(self, query: Query, surface: str, ruled: Ruled, best: I64) -> Slots:
        share = self.policy.surfaces[surface].explore_share
        return fill_slots(best, ruled.alive, query.seeds, share, self.policy.feed.length)

    def _scored(self, scene: Scene, surface: str, ruled: Ruled) -> Scored:
        rules, diverse = self.policy.rules, AUTHOR_DIVERSITY in self.policy.surfaces[surface].rules
        decay = rules.author_diversity_decay if diverse else GRID
        return Scored(ruled.undiverse, scene.author, falling(decay, rules.author_diversity_floor, SLOTS_MAX))

    def _feeds(self, ranked: Ranked) -> list[RankedFeed]:
        """Cut the slice's entries into feeds."""
        users, emitted, query = ranked.users, ranked.emitted, ranked.query
        slots, scene = emitted.slots, emitted.scene
        sources = emitted.of(scene.sources)
        first = first_source(sources)
        items, fps, changed = emitted.of(scene.item), emitted.of(scene.fp), emitted.of(ranked.ruled.changed)
        explored, propensity = emitted.of_slots(slots.explored), emitted.of_slots(slots.propensity)
        dropped = _by_user(ranked.ruled.dropped, len(users))
        proposed = _by_user(_counts(ranked.candidates.sources), len(users))
        failed = {name: f"{type(e).__name__}: {e}" for name, e in ranked.candidates.failed.items()}
        return [
            RankedFeed(
                user=users.ids[u],
                user_fp=int(users.fp[u]),
                surface=ranked.surface,
                version=ranked.versions[u],
                as_of_ms=query.as_of_ms,
                tick=self.index.lists.tick,
                seed=int(query.seeds[u]),
                policy=self.policy.version,
                model=self.scorer.name,
                items=items[part],
                item_fp=fps[part],
                scores=ranked.scores[part],
                sources=sources[part],
                source=first[part],
                reason=ranked.reasons[part],
                explored=explored[part],
                propensity=propensity[part],
                slate=(int(slots.slate[u, 0]), int(slots.slate[u, 1])),
                changed=changed[part],
                dropped=dropped[u],
                candidates=proposed[u],
                failed=failed,
                explainer=self.explainer,
            )
            for u, part in enumerate(emitted.parts)
        ]

    def _with_features(
        self, feeds: list[RankedFeed], emitted: Emitted, features: Features
    ) -> list[RankedFeed]:
        """Features of all entries for a share of the users, of the explored ones for the others."""
        slots = emitted.slots
        below = round(self.policy.budgets.served_features_share * (1 << 32))
        whole = splitmix64(emitted.scene.users.fp ^ FEATURED_STREAM) >> np.uint64(32) < np.uint64(below)
        wanted = emitted.of_slots(slots.explored | whole[:, None]).nonzero()[0]
        if not len(wanted):
            return feeds
        values = features.some(np.arange(len(FEATURES)), emitted.flat.take(wanted)).astype(np.int32)
        starts = np.array([part.start for part in emitted.parts])
        begins = wanted.searchsorted([*starts, len(emitted)]).tolist()
        for feed, start, (begin, end) in zip(feeds, starts.tolist(), pairwise(begins), strict=True):
            if begin < end:
                feed.features, feed.featured = values[:, begin:end], wanted[begin:end] - start
        return feeds


def rounded(score: F64) -> F64:
    """Scores in units of 2^-24 as whole millionths, halves up: floor(score * 15625 / 2^18 + 1/2) / 10^6."""
    result: F64 = np.floor(score * (SCORES_PER_UNIT / (1 << SCORE_BITS)) + 0.5) / SCORES_PER_UNIT
    return result


def _counts(sources: NDArray[np.uint16]) -> dict[str, I64]:
    """Candidates int64[U] by source; one that several proposed counts for each."""
    users, masks = len(sources), len(_HAS_BIT)
    cell = sources + (np.arange(users) * masks)[:, None]
    counts = np.bincount(cell.reshape(-1), minlength=users * masks).reshape(users, masks) @ _HAS_BIT
    return dict(zip(SOURCE_NAMES, counts.T, strict=True))


def _by_user(counts: dict[str, I64], users: int) -> list[dict[str, int]]:
    """Counts above 0 by name, for each user."""
    table = np.array(list(counts.values()), np.int64).reshape(-1, users).T
    names = list(counts)
    found: list[dict[str, int]] = [{} for _ in range(users)]
    user, which = true_places(table != 0)
    for u, name, count in zip(user.tolist(), which.tolist(), table[user, which].tolist(), strict=True):
        found[u][names[name]] = count
    return found
