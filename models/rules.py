"""Rules (10): what must not be shown, and what is worth less than its score. Each says under which name.

Drops come first, cheap ones before dear ones; a candidate counts under the first that drops it. Then the
score changes, one rule after the other, on integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.features.scene import Scene
from models.features.ties import BLOCKED, MUTED
from models.order import PLACE_BITS, order, placed, places, run_places, true_places
from models.policy import Policy
from models.relations import actor_is_author, keyword_hits, marked_hidden, relation_hits
from models.score import SCORE_MAX
from models.tables import GRID

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FATIGUE_TIMES_MAX = 64
FALLING_CACHED_MAX = 64
AUTHOR_DIVERSITY = "author_diversity"


@dataclass(slots=True)
class Field:
    """The candidates while rules go over them: `alive` bool[U, C], `score` float64[U, C] (units of 2^-24)."""

    scene: Scene
    policy: Policy
    alive: Bools
    score: F64


class Drop(Protocol):
    """A reason not to show a candidate."""

    @property
    def name(self) -> str: ...
    def drops(self, field: Field) -> Bools:
        """bool[U, C]; what it says of candidates that are not alive does not matter."""
        ...


class Change(Protocol):
    """A reason to show a candidate later."""

    @property
    def name(self) -> str: ...
    def factors(self, field: Field) -> F64:
        """float64[U, C]: grid integers in 0..4096, where 4096 changes nothing."""
        ...


class Own:
    """The user's own items."""

    name = "own"

    def drops(self, field: Field) -> Bools:
        return actor_is_author(field.scene)


class Future:
    """Items that are not there yet at `as_of`."""

    name = "future"

    def drops(self, field: Field) -> Bools:
        return field.scene.created_ms > field.scene.as_of_ms


class TooOld:
    """Items older than the policy allows."""

    name = "too_old"

    def drops(self, field: Field) -> Bools:
        return field.scene.created_ms < field.scene.as_of_ms - field.policy.feed.item_age_ms_max


class Hidden:
    """Items that the user acted on negatively, as far as the ring of the last 16 engagements goes."""

    name = "hidden"

    def drops(self, field: Field) -> Bools:
        return marked_hidden(field.scene)


class Seen:
    """Items that the user was shown often enough."""

    name = "seen"

    def drops(self, field: Field) -> Bools:
        hits, seen = np.zeros(field.scene.shape, np.bool_), field.scene.seen
        hits.reshape(-1)[seen.place[seen.times >= field.policy.rules.seen_times_max]] = True
        return hits


class Blocked:
    """Authors and topics that the user blocked."""

    name = "blocked"

    def drops(self, field: Field) -> Bools:
        return relation_hits(field.scene, BLOCKED)


class Muted:
    """Authors and topics that the user muted."""

    name = "muted"

    def drops(self, field: Field) -> Bools:
        return relation_hits(field.scene, MUTED)


class Keyword:
    """Titles with a word that the user muted or blocked."""

    name = "keyword"

    def drops(self, field: Field) -> Bools:
        return keyword_hits(field.scene, field.alive)


class Duplicate:
    """Of items with the same author and the same title all but the best."""

    name = "duplicate"

    def drops(self, field: Field) -> Bools:
        scene, dropped = field.scene, np.zeros(field.scene.shape, np.bool_)
        titles = scene.index.title_fp.take(scene.at)
        texts = (titles ^ scene.author.astype(np.uint64) * _MIX).view(np.int64) >> 13 & _GROUP_MAX
        np.putmask(texts, ~field.alive | (titles == 0), -1)
        texts <<= PLACE_BITS
        texts |= np.arange(texts.shape[1])
        texts.sort(axis=1)
        run = texts >> PLACE_BITS
        twice = (run[:, 1:] == run[:, :-1]) & (run[:, 1:] >= 0)
        if twice.any():
            alike = np.zeros(texts.shape, np.bool_)
            alike[:, 1:] = twice
            alike[:, :-1] |= twice
            user, at = true_places(alike)
            place = texts[user, at] & ((1 << PLACE_BITS) - 1)
            flat = user * texts.shape[1] + place
            # worse ones first, so that the best of each group is the last
            by = np.lexsort((-scene.tie.take(flat), field.score.take(flat), run[user, at], user))
            user, group, flat = user[by], run[user, at][by], flat[by]
            dropped.reshape(-1)[flat[:-1]] = (user[1:] == user[:-1]) & (group[1:] == group[:-1])
        return dropped


class Fatigue:
    """Items shown before: the factor once for every time."""

    name = "fatigue"

    def factors(self, field: Field) -> F64:
        powers = falling(field.policy.rules.fatigue_factor, 0, FATIGUE_TIMES_MAX + 1)
        factors, seen = np.full(field.scene.shape, float(GRID)), field.scene.seen
        factors.reshape(-1)[seen.place] = powers.take(np.minimum(seen.times, FATIGUE_TIMES_MAX))
        return factors


class OutOfNetwork:
    """Items of authors whom the user does not follow."""

    name = "out_of_network"

    def factors(self, field: Field) -> F64:
        return np.where(field.scene.followed, float(GRID), float(field.policy.rules.out_of_network_factor))


class AuthorDiversity:
    """The k-th best item of an author (k = 0, 1, ...): factor (1 - f) d^k + f.

    Sorting by the changed scores is the same as picking greedily, because an author's own items keep their
    order (x-algorithm: Author Diversity Scorer).
    """

    name = AUTHOR_DIVERSITY

    def factors(self, field: Field) -> F64:
        scene, rules = field.scene, field.policy.rules
        best = places(order(field.score, scene.tie, field.alive))
        author = np.where(field.alive, scene.author, _NOBODY).astype(np.int64)
        flat = placed(best)
        before = run_places(author.take(flat))
        table = falling(rules.author_diversity_decay, rules.author_diversity_floor, scene.shape[1])
        factors = np.empty(scene.shape)
        factors.reshape(-1)[flat] = table.take(before)
        return factors


_MIX = np.uint64(0x9E3779B97F4A7C15)
_GROUP_MAX = (1 << 50) - 1
_NOBODY = (1 << 31) - 1

DROPS: tuple[Drop, ...] = (
    Own(), Future(), TooOld(), Hidden(), Seen(), Blocked(), Muted(), Keyword(), Duplicate(),
)  # fmt: skip
CHANGES: tuple[Change, ...] = (Fatigue(), OutOfNetwork(), AuthorDiversity())


@dataclass(frozen=True, slots=True)
class Ruled:
    """`alive` bool[U, C]: what may be shown. `score` float64[U, C] after changes. `dropped`: by rule, how
    many candidates int64[U]. `changed` uint8[U, C]: bit i is set where CHANGES[i] lowered the score. `rule`
    uint8[U, C]: 1 + the place in `dropped` of the rule that dropped a candidate, 0 where none did.
    `undiverse` float64[U, C]: the score without author diversity."""

    alive: Bools
    score: F64
    dropped: dict[str, I64]
    changed: NDArray[np.uint8]
    rule: NDArray[np.uint8]
    undiverse: F64


def apply_rules(scene: Scene, policy: Policy, names: tuple[str, ...], score: F64) -> Ruled:
    """Apply the rules `names` (in the order of DROPS and CHANGES); `score` is not changed."""
    field = Field(scene, policy, scene.real.copy(), score)
    rule = np.zeros(scene.shape, np.uint8)
    named = [drop for drop in DROPS if drop.name in names]
    for number, drop in enumerate(named, 1):
        hit = drop.drops(field) & field.alive
        field.alive ^= hit
        rule |= hit.view(np.uint8) * np.uint8(number)
    users, width = len(rule), len(named) + 1
    cells = rule + (np.arange(users) * width)[:, None]
    counts = np.bincount(cells.reshape(-1), minlength=users * width).reshape(users, width)
    dropped = {drop.name: counts[:, number] for number, drop in enumerate(named, 1)}
    changed = np.zeros(scene.shape, np.uint8)
    undiverse = field.score
    for bit, change in enumerate(CHANGES):
        if change.name in names:
            factors = change.factors(field)
            field.score = weakened(field.score, factors)
            changed |= (factors != GRID).view(np.uint8) << bit
            undiverse = undiverse if change.name == AUTHOR_DIVERSITY else field.score
    return Ruled(field.alive, field.score, dropped, changed, rule, undiverse)


def weakened(score: F64, factor: F64) -> F64:
    """floor(score * factor / 4096), of a negative score floor(score * (8192 - factor) / 4096): a factor below
    1 always means later."""
    effect = score * factor
    below = (score < 0).reshape(-1).nonzero()[0]
    effect.reshape(-1)[below] = score.reshape(-1).take(below) * (2.0 * GRID - factor.reshape(-1).take(below))
    effect *= 1 / GRID
    np.floor(effect, out=effect)
    return np.maximum(effect, -SCORE_MAX, out=effect)


@lru_cache(FALLING_CACHED_MAX)
def falling(decay: int, floor: int, count: int) -> F64:
    """float64[count]: (4096 - floor) * d_k // 4096 + floor with d_0 = 4096, d_k+1 = d_k * decay // 4096.

    >>> falling(2048, 1024, 4).tolist()
    [4096.0, 2560.0, 1792.0, 1408.0]
    """
    factors, power = [], GRID
    for _ in range(count):
        factors.append(float((GRID - floor) * power // GRID + floor))
        power = power * decay // GRID
    table = np.array(factors)
    table.setflags(write=False)
    return table
