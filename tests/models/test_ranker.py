"""Feeds are what docs/ranking.md says, the same in any company, and everything in them has a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import models
from models.candidates import FOR_YOU, Query, draw_seeds, following, gather
from models.context import UserBatch
from models.features import FEATURE_NAMES, Scene, compute
from models.graph import GraphRow
from models.policy import Policy, parse_policy
from models.ranked_feed import RankedFeed
from models.ranker import Ranker
from models.rules import CHANGES, DROPS
from models.sample_world import AS_OF_MS, SampleWorld, sample_world
from models.users import new_rows
from tests.models import plain_ranking as plain

SEED = 99
VERSION = "000001-000000000000020-000000000003-000000000004000"


@cache
def policy() -> Policy:
    return parse_policy((Path(models.__file__).parent / "default_policy.toml").read_text())


@cache
def world() -> SampleWorld:
    return sample_world(policy(), seed=4, users=32)


def rank(users: UserBatch, surface: str = "for_you", changed: Policy | None = None) -> list[RankedFeed]:
    ranker = Ranker(changed or policy(), world().index, SEED)
    return ranker.rank(users, surface, [VERSION] * len(users), AS_OF_MS)


def everyone(surface: str = "for_you", changed: Policy | None = None) -> list[RankedFeed]:
    users = world().users
    return [feed for start in (0, 16) for feed in rank(users.part(start, start + 16), surface, changed)]


def person(user: int, over: plain.World) -> plain.Person:
    users = world().users
    seen = {int(e) >> 32: ((int(e) >> 16) & 0xFFFF, int(e) & 0xFFFF) for e in users.seen[user].tolist()}
    row = users.graph[user]
    graph = {
        name: [(e >> 16, k) for e, k in zip(edges.tolist(), kinds.tolist(), strict=True)]
        for name, (edges, kinds) in zip(("follows", "mutes", "blocks"), row.lists(), strict=True)
    }
    return plain.Person(
        users.ids[user], users.rows[user], users.merged[user], seen, graph, policy().verbs, over, AS_OF_MS
    )


def query(users: UserBatch) -> Query:
    seeds = draw_seeds(SEED, users.fp, [VERSION] * len(users))
    return Query(users, world().index, policy().verbs, policy().candidates, AS_OF_MS, seeds)


def same(a: RankedFeed, b: RankedFeed) -> None:
    for name in ("items", "item_fp", "scores", "sources", "reason", "explored", "changed"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    np.testing.assert_array_equal(a.propensity, b.propensity)
    assert (a.user, a.seed, a.dropped, a.candidates) == (b.user, b.seed, b.dropped, b.candidates)


def test_features_are_those_of_the_page() -> None:
    over = plain.World.of(world().index)
    users = world().users.part(16, 32)
    candidates = gather(query(users))
    scene = Scene(users, candidates, world().index, policy().verbs, AS_OF_MS)
    planes = compute(scene)
    for user in (0, 3, 8, 12):
        slots = candidates.item[user][candidates.item[user] >= 0].tolist()
        wanted = plain.features(person(16 + user, over), [over.items[s] for s in slots])
        for name, plane in zip(FEATURE_NAMES, planes, strict=True):
            assert plane[user, : len(slots)].tolist() == [f[name] for f in wanted], name


@pytest.mark.parametrize("user", [1, 6, 17, 31])
def test_a_feed_is_that_of_the_page(user: int) -> None:
    over, users = plain.World.of(world().index), world().users.part(user, user + 1)
    candidates = gather(query(users)).item[0]
    items = [over.items[s] for s in candidates[candidates >= 0].tolist()]
    seed = int(draw_seeds(SEED, users.fp, [VERSION])[0])
    entries, dropped = plain.feed(policy(), "for_you", person(user, over), items, seed)
    feed = rank(users)[0]
    assert feed.items.tolist() == [slot for slot, _, _ in entries]
    assert feed.scores.tolist() == [score for _, score, _ in entries]
    propensities = [None if np.isnan(p) else p for p in feed.propensity.tolist()]
    assert propensities == [propensity for _, _, propensity in entries]
    assert feed.dropped == dict(dropped)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 31), min_size=1, max_size=16, unique=True))
def test_users_rank_alike_in_any_company(chosen: list[int]) -> None:
    users, alone = world().users, everyone()
    part = UserBatch(
        [users.ids[u] for u in chosen], users.fp[chosen], users.rows[chosen], users.merged[chosen],
        [users.seen[u] for u in chosen], [users.graph[u] for u in chosen],
    )  # fmt: skip
    for feed, user in zip(rank(part), chosen, strict=True):
        same(feed, alone[user])


def test_following_is_by_time_and_only_of_followed_authors() -> None:
    index = world().index
    for user, feed in enumerate(everyone("following")):
        created = index.created_ms[feed.items]
        assert (np.diff(created) <= 0).all()
        assert (created <= AS_OF_MS).all()
        authors = {int(fp) & ((1 << 48) - 1) for fp in index.author_fp[index.author[feed.items]]}
        assert authors <= {int(e) >> 16 for e in world().users.graph[user].follows}
        assert not feed.explored.any()
        assert feed.scores.tolist() == (created / 1_000).tolist()
    candidates = following(query(world().users.part(0, 1)))
    assert set(rank(world().users.part(0, 1), "following")[0].items.tolist()) <= set(
        candidates.item[0].tolist()
    )


def test_someone_new_gets_a_feed() -> None:
    nobody = UserBatch.of(
        [b"never seen"], new_rows(1), [np.empty(0, np.uint64)], [GraphRow()], world().index, policy().verbs
    )
    feed = rank(nobody)[0]
    assert len(feed) > 20
    assert set(feed.source_names) <= {"trending", "explore", "topic_trending"}
    assert (np.diff(feed.scores[~feed.explored]) <= 0).all()
    assert feed.scores.max() > 0
    assert len(rank(nobody, "following")[0]) == 0


def test_an_empty_index_makes_empty_feeds() -> None:
    from models.item_index import ItemIndex

    ranker = Ranker(policy(), ItemIndex(1_000), SEED)
    for surface in ("for_you", "following"):
        feeds = ranker.rank(world().users.part(0, 16), surface, [VERSION] * 16, AS_OF_MS)
        assert [len(feed) for feed in feeds] == [0] * 16


def test_feeds_differ_by_version_only_in_exploration() -> None:
    users, ranker = world().users.part(0, 16), Ranker(policy(), world().index, SEED)
    one, other = (ranker.rank(users, "for_you", [v] * 16, AS_OF_MS) for v in ("a", "b"))
    assert any(a.items.tolist() != b.items.tolist() for a, b in zip(one, other, strict=True))
    for a, again in zip(one, ranker.rank(users, "for_you", ["a"] * 16, AS_OF_MS), strict=True):
        same(a, again)


@pytest.mark.parametrize("source", [s.name for s in FOR_YOU])
def test_every_source_matters(source: str) -> None:
    sources = {name: limit for name, limit in policy().candidates.sources.items() if name != source}
    without = replace(policy(), candidates=replace(policy().candidates, sources=sources))
    assert differs(everyone(), everyone(changed=without))


@pytest.mark.parametrize("feature", sorted({f for w in policy().weights.values() for f in w}))
def test_every_feature_with_weight_matters(feature: str) -> None:
    weights = {h: {f: w for f, w in of.items() if f != feature} for h, of in policy().weights.items()}
    assert differs(everyone(), everyone(changed=replace(policy(), weights=weights)))


@pytest.mark.parametrize("rule", [r.name for r in (*DROPS, *CHANGES)])
def test_every_rule_matters(rule: str) -> None:
    surface = policy().surfaces["for_you"]
    rules = tuple(r for r in surface.rules if r != rule)
    surfaces = {**policy().surfaces, "for_you": replace(surface, rules=rules)}
    whole = replace(policy(), feed=replace(policy().feed, length=500))
    assert differs(everyone(changed=whole), everyone(changed=replace(whole, surfaces=surfaces)))


def differs(one: Sequence[RankedFeed], other: Sequence[RankedFeed]) -> bool:
    return any(
        a.items.tolist() != b.items.tolist() or a.scores.tolist() != b.scores.tolist()
        for a, b in zip(one, other, strict=True)
    )


def test_everything_emitted_says_why() -> None:
    for feed in everyone():
        assert len(feed.why) == len(feed) == len(feed.rules) == len(feed.source_names)
        for why, explored in zip(feed.why, feed.explored.tolist(), strict=True):
            assert 1 <= len(why) <= 3
            assert all(why)
            assert ("to find out" in why[0]) == explored
        out = ["out_of_network" in rules for rules in feed.rules]
        follows = {int(e) >> 16 for e in world().users.graph[int(feed.user[5:])].follows}
        index = world().index
        network = [int(fp) & ((1 << 48) - 1) in follows for fp in index.author_fp[index.author[feed.items]]]
        assert out == [not n for n in network]


def test_features_are_kept_for_a_share_of_users_and_for_explored_entries() -> None:
    for feed in everyone():
        if feed.featured is None:
            assert not feed.explored.any()
            continue
        assert feed.features is not None
        assert feed.features.shape == (len(FEATURE_NAMES), len(feed.featured))
        whole = len(feed.featured) == len(feed)
        assert whole or feed.featured.tolist() == np.flatnonzero(feed.explored).tolist()
    budgets = replace(policy().budgets, served_features_share=1.0)
    assert all(len(f.featured) == len(f) for f in everyone(changed=replace(policy(), budgets=budgets)))  # type: ignore[arg-type]


def test_a_source_that_fails_is_named_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: object, query: Query, reach: int) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(type(FOR_YOU[1]), "propose", fails)
    feed = rank(world().users.part(0, 1))[0]
    assert feed.failed == {FOR_YOU[1].name: "RuntimeError: no such luck"}
    assert len(feed) > 50


def test_misuse_says_what_to_do() -> None:
    ranker, users = Ranker(policy(), world().index, SEED), world().users
    with pytest.raises(ValueError, match="use one of for_you, following"):
        ranker.rank(users.part(0, 1), "home", [VERSION], AS_OF_MS)
    with pytest.raises(ValueError, match="give one each"):
        ranker.rank(users.part(0, 2), "for_you", [VERSION], AS_OF_MS)
    rows = (np.tile(values, 3) for values in (users.fp, users.rows, users.merged))
    many = UserBatch(users.ids * 3, *rows, users.seen * 3, users.graph * 3)
    with pytest.raises(ValueError, match="give 1 to 64"):
        ranker.rank(many, "for_you", [VERSION] * len(many), AS_OF_MS)
