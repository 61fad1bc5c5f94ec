"""One contract for all rules, and what each of them is for."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import models
from models.candidates import Query, draw_seeds, gather
from models.features import Scene
from models.fingerprint import fp64
from models.policy import Policy, parse_policy
from models.rules import CHANGES, DROPS, Change, Drop, Field, apply_rules, falling, weakened
from models.sample_world import AS_OF_MS, SampleWorld, sample_world
from models.score import SCORE_MAX
from models.words import title_words

DAY_MS = 86_400_000


@cache
def policy() -> Policy:
    return parse_policy((Path(models.__file__).parent / "default_policy.toml").read_text())


@cache
def world() -> SampleWorld:
    return sample_world(policy(), seed=3, users=16, items=1_500)


def scene(start: int = 0, stop: int = 16) -> Scene:
    users = world().users.part(start, stop)
    seeds = draw_seeds(1, users.fp, ["v"] * len(users))
    query = Query(users, world().index, policy().verbs, policy().candidates, AS_OF_MS, seeds)
    return Scene(users, gather(query), world().index, policy().verbs, AS_OF_MS)


def field(start: int = 0, stop: int = 16) -> Field:
    """Scores that depend on the item alone."""
    of = scene(start, stop)
    score = (of.fp % np.uint64(1 << 20)).astype(np.float64) - (1 << 18)
    return Field(of, policy(), of.real.copy(), score)


def named(name: str) -> Drop:
    return next(rule for rule in DROPS if rule.name == name)


@pytest.mark.parametrize("rule", DROPS, ids=lambda r: r.name)
def test_each_drop_drops_some_and_not_all_and_the_same_alone(rule: Drop) -> None:
    together = field()
    dropped = rule.drops(together) & together.alive
    assert 0 < dropped.sum() < together.alive.sum() / 2
    for user in (0, 5, 15):
        alone = field(user, user + 1)
        width = int(alone.alive.sum())
        assert (rule.drops(alone) & alone.alive)[0, :width].tolist() == dropped[user, :width].tolist()


@pytest.mark.parametrize("rule", CHANGES, ids=lambda r: r.name)
def test_each_change_is_a_factor_and_the_same_alone(rule: Change) -> None:
    together = field()
    factors = rule.factors(together)
    assert ((factors >= 0) & (factors <= 4096)).all()
    assert (factors[together.alive] < 4096).any()
    for user in (0, 5, 15):
        alone = field(user, user + 1)
        width = int(alone.alive.sum())
        assert rule.factors(alone)[0, :width].tolist() == factors[user, :width].tolist()


def test_every_drop_is_counted_once_under_the_first_rule() -> None:
    before = field()
    names = tuple(r.name for r in DROPS)
    ruled = apply_rules(before.scene, policy(), names, before.score)
    gone = before.alive.sum(axis=1) - ruled.alive.sum(axis=1)
    assert sum(ruled.dropped.values()).tolist() == gone.tolist()  # type: ignore[union-attr]
    assert (ruled.score == before.score).all()
    assert not ruled.changed.any()
    one = apply_rules(before.scene, policy(), ("seen",), before.score)
    assert list(one.dropped) == ["seen"]


def test_changes_say_where_they_lowered_a_score() -> None:
    before = field()
    ruled = apply_rules(before.scene, policy(), tuple(r.name for r in CHANGES), before.score)
    lowered = ruled.score < before.score
    assert (lowered <= (ruled.changed > 0))[ruled.alive].all()
    assert (ruled.score <= before.score)[ruled.alive].all()
    out_of_network = (ruled.changed & 2) > 0
    assert (out_of_network == ~before.scene.followed)[ruled.alive].all()


def test_seen_items_go_after_three_times_and_fade_before() -> None:
    of = field()
    times = np.zeros(of.scene.shape)
    times.reshape(-1)[of.scene.seen.place] = of.scene.seen.times
    assert (named("seen").drops(of) == (times >= 3)).all()
    factors = CHANGES[0].factors(of)
    assert set(factors[(times == 2)].tolist()) == {float(4096 * 2867 // 4096 * 2867 // 4096)}


def test_ages_are_measured_at_as_of() -> None:
    of = field()
    created = of.scene.created_ms
    assert (named("future").drops(of) == (created > AS_OF_MS)).all()
    assert (named("too_old").drops(of) == (created < AS_OF_MS - 60 * DAY_MS)).all()


def test_of_equal_titles_of_an_author_the_best_stays() -> None:
    of = field()
    dropped = named("duplicate").drops(of)
    index = of.scene.index
    for user in range(16):
        best: dict[tuple[int, str | None], float] = {}
        for place in np.flatnonzero(of.alive[user]).tolist():
            slot = of.scene.item[user, place]
            key = (int(index.author[slot]), index.title[slot])
            best[key] = max(best.get(key, -1e18), of.score[user, place])
        for place in np.flatnonzero(of.alive[user]).tolist():
            slot = of.scene.item[user, place]
            key = (int(index.author[slot]), index.title[slot])
            assert dropped[user, place] == (of.score[user, place] < best[key])


def test_diversity_is_what_a_greedy_choice_would_give() -> None:
    of = field()
    of.score = np.abs(of.score) + 1
    changed = weakened(of.score, CHANGES[2].factors(of))
    table = falling(2048, 1024, of.scene.shape[1])
    for user in range(4):
        left = np.flatnonzero(of.alive[user]).tolist()
        met: dict[int, int] = {}
        greedy = []
        while left:
            value = {
                k: of.score[user, k] * table[met.get(int(of.scene.author[user, k]), 0)] // 4096 for k in left
            }
            chosen = min(left, key=lambda k: (-value[k], int(of.scene.fp[user, k]) >> 43, k))
            met[int(of.scene.author[user, chosen])] = met.get(int(of.scene.author[user, chosen]), 0) + 1
            greedy.append((chosen, value[chosen]))
            left.remove(chosen)
        assert all(changed[user, k] == v for k, v in greedy)
        assert [v for _, v in greedy] == sorted((v for _, v in greedy), reverse=True)


def test_a_factor_always_means_later() -> None:
    score = np.array([[1000.0, 0.0, -1000.0, -float(SCORE_MAX)]])
    assert weakened(score, np.full((1, 4), 3072.0)).tolist() == [[750.0, 0.0, -1250.0, -float(SCORE_MAX)]]
    assert (weakened(score, np.full((1, 4), 4096.0)) == score).all()


def test_keywords_are_words_in_lower_case() -> None:
    words = title_words("Ärger, mit WORD-play")
    for word in ("ärger", "mit", "word", "play"):
        assert fp64(word.encode()) & (1 << 48) - 1 in words
    assert len(words) == 4


def test_surfaces_choose_their_rules() -> None:
    of = field()
    surface = replace(policy().surfaces["for_you"], rules=())
    ruled = apply_rules(of.scene, policy(), surface.rules, of.score)
    assert (ruled.alive == of.scene.real).all()
    assert ruled.dropped == {}
