"""Candidates are what the page about them says, whoever shares the slice and however the index came to be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.candidates import (
    FOR_YOU,
    SOURCE_NAMES,
    CandidateLimits,
    Candidates,
    Query,
    SourceLimit,
    draw_seeds,
    following,
    gather,
)
from models.candidates import in_network as in_network_module
from models.fingerprint import fp64
from models.graph import KIND_AUTHOR, KIND_TOPIC, GraphRow
from models.item_columns import ItemRecord
from models.item_index import ItemIndex
from models.users import USER_ROW
from models.verbs import Role, Verb, VerbTable
from tests.models.candidates_oracle import LOW32, LOW48, Oracle
from tests.models.index_world import AS_OF_MS, World, derived, fps, play, record, steps, user_fp

VERBS = VerbTable([Verb("click", Role.WEAK), Verb("like", Role.STRONG)])
SMALL = CandidateLimits(
    candidates=25,
    cell_items=7,
    sources={
        "in_network": SourceLimit(6, 20),
        "embedding": SourceLimit(4, 9),
        "item_to_item": SourceLimit(2, 6),
        "social_proof": SourceLimit(2, 5),
        "trending": SourceLimit(2, 5),
        "topic_trending": SourceLimit(3, 6),
        "explore": SourceLimit(2, 9),
    },
)


@dataclass
class OneUser:
    fp: int
    row: Any
    graph: GraphRow
    seed: int


@dataclass
class Batch:
    """What the sources read of a slice."""

    fp: Any
    rows: Any
    merged: Any
    graph: list[GraphRow]


def edge(identifier: str) -> int:
    return (fp64(identifier.encode()) & LOW48) << 16 | 19_000


def user(seed: int) -> OneUser:
    """A user whose row and graph follow from `seed`."""
    random = np.random.default_rng(seed)
    row = np.zeros((), USER_ROW)
    authors, topics = random.permutation(6)[:4], random.permutation(8)[: random.integers(0, 8)]
    row["author_fp"][: len(authors)] = [fp64(b"author-%d" % a) & LOW32 for a in authors]
    row["author_pos"][: len(authors)] = random.integers(0, 9_000, len(authors))
    row["author_neg"][: len(authors)] = random.integers(0, 5_000, len(authors))
    row["topic_fp"][: len(topics)] = [fp64(b"topic-%d" % t) & LOW32 for t in topics]
    row["topic_pos"][: len(topics)] = random.integers(0, 9, len(topics)) * 1_000
    row["topic_neg"][: len(topics)] = random.integers(0, 5, len(topics)) * 1_000
    row["embedding"] = random.integers(-900, 900, 64) * (random.random() < 0.8)
    row["engaged"] = random.integers(0, 60)
    row["ring_fp"] = [fp64(b"item-%d" % n) for n in random.integers(0, 12, 16)]
    row["ring_act"] = random.integers(0, 2, 16) | 0x80 * (random.random(16) < 0.2)
    names = [f"author-{a}" for a in random.permutation(6)] + [f"user-{u}" for u in random.permutation(12)]
    names = [names[i] for i in random.permutation(len(names))[: random.integers(0, len(names))]]
    edges = [(edge(name), KIND_AUTHOR) for name in names]
    edges += [(edge(f"topic-{t}"), KIND_TOPIC) for t in random.permutation(8)[: random.integers(0, 3)]]
    follows = np.array([e for e, _ in edges], np.uint64)
    graph = GraphRow(follows=follows, follow_kinds=np.array([k for _, k in edges], np.uint8))
    return OneUser(user_fp(seed % 12), row, graph, int(random.integers(0, 1 << 63)))


def query(users: list[OneUser], index: ItemIndex, limits: CandidateLimits = SMALL) -> Query:
    rows = np.array([u.row for u in users], USER_ROW)
    batch = Batch(np.array([u.fp for u in users], np.uint64), rows, rows, [u.graph for u in users])
    return Query(batch, index, VERBS, limits, AS_OF_MS, np.array([u.seed for u in users], np.uint64))


def named(found: Candidates, index: ItemIndex) -> list[list[tuple[str, frozenset[str]]]]:
    """Per user the candidates' ids and sources."""
    return [
        [
            (index.ids[item], frozenset(name for b, name in enumerate(SOURCE_NAMES) if mask >> b & 1))
            for item, mask in zip(items.tolist(), masks.tolist(), strict=True)
            if item >= 0
        ]
        for items, masks in zip(found.item, found.sources, strict=True)
    ]


def busy_world(items: int = 30) -> World:
    return World({n: record(n, n) for n in range(items)}, {n: derived(n, 1) for n in range(items)})


@settings(max_examples=80, deadline=None)
@given(steps, st.lists(st.integers(0, 10_000), min_size=1, max_size=16))
def test_candidates_are_those_of_the_oracle(told: list[Any], seeds: list[int]) -> None:
    index = ItemIndex(1_000)
    world = play(told, index)
    users = [user(seed) for seed in seeds]
    found = gather(query(users, index))
    assert found.failed == {}
    oracle = Oracle(world, SMALL)
    assert named(found, index) == [oracle.candidates(u) for u in users]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=16))
def test_candidates_of_a_busy_world_are_those_of_the_oracle(seeds: list[int]) -> None:
    world, users = busy_world(), [user(seed) for seed in seeds]
    index, oracle = world.index(), Oracle(world, SMALL)
    assert named(gather(query(users, index)), index) == [oracle.candidates(u) for u in users]
    by_time = [oracle.in_network(u, by_time=True)[: SMALL.candidates] for u in users]
    assert [[i for i, _ in row] for row in named(following(query(users, index)), index)] == by_time


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=16), st.randoms())
def test_a_users_candidates_do_not_depend_on_the_slice_or_on_the_order_of_items(
    seeds: list[int], random: Any
) -> None:
    world, users = busy_world(), [user(seed) for seed in seeds]
    order = list(world.items)
    random.shuffle(order)
    index, other = world.index(), world.index(order)
    together = named(gather(query(users, index)), index)
    assert [named(gather(query([u], other)), other)[0] for u in users] == together
    some = sorted(random.sample(range(len(users)), len(users) // 2 + 1))
    assert named(gather(query([users[i] for i in some], other)), other) == [together[i] for i in some]


def test_the_standard_limits_fill_a_feed_with_distinct_live_items() -> None:
    index = ItemIndex(5_000)
    index.upsert([record(n, n) for n in range(2_000)])
    index.apply_derived(fps(*range(2_000)), np.concatenate([derived(n, 1) for n in range(2_000)]))
    index.refresh(1, AS_OF_MS)
    index.remove(fps(*range(0, 2_000, 3)))
    found = gather(query([user(n) for n in range(16)], index, CandidateLimits()))
    assert found.failed == {}
    for items, masks in zip(found.item, found.sources, strict=True):
        there = items[items >= 0]
        assert len(there) == len(set(there.tolist())) <= 400
        assert index.live[there].all()
        assert ((items >= 0) == (masks > 0)).all()
    assert sum(quota for quota, _ in CandidateLimits().sources.values()) == CandidateLimits().candidates


@pytest.mark.parametrize("name", SOURCE_NAMES)
def test_each_source_fails_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world, users = busy_world(), [user(n) for n in range(16)]
    index = world.index()
    source = next(s for s in FOR_YOU if s.name == name)

    def broken(*_: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(type(source), "propose", broken)
    found = gather(query(users, index))
    assert list(found.failed) == [name]
    monkeypatch.undo()
    without = {k: v for k, v in SMALL.sources.items() if k != name}
    oracle = Oracle(world, replace(SMALL, sources=without))
    assert named(found, index) == [oracle.candidates(u) for u in users]


@pytest.mark.parametrize("name", SOURCE_NAMES)
def test_removing_a_source_changes_someones_candidates(name: str) -> None:
    index, users = busy_world().index(), [user(n) for n in range(16)]
    without = replace(SMALL, sources={k: v for k, v in SMALL.sources.items() if k != name})
    assert named(gather(query(users, index)), index) != named(gather(query(users, index, without)), index)


def test_a_new_item_reaches_followers_before_any_refresh() -> None:
    index, reader = busy_world().index(), user(3)
    reader.graph.put(1, fp64(b"fresh-author"), KIND_AUTHOR, 1)  # type: ignore[arg-type]
    index.upsert([ItemRecord("fresh", "fresh-author", AS_OF_MS + 1)])
    assert "fresh" in dict(named(gather(query([reader], index)), index)[0])
    assert named(following(query([reader], index)), index)[0][0][0] == "fresh"


def test_a_removed_item_is_no_candidate_before_any_refresh() -> None:
    index, reader = busy_world().index(), user(3)
    first = named(gather(query([reader], index)), index)[0][0][0]
    index.remove(np.array([fp64(first.encode())], np.uint64))
    assert first not in dict(named(gather(query([reader], index)), index)[0])


def test_of_more_followees_than_the_limit_those_with_affinity_then_the_newest_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_network_module, "FOLLOWEES_MAX", 3)
    index = ItemIndex(100)
    index.upsert([ItemRecord(f"item-{n}", f"writer-{n}", AS_OF_MS + n) for n in range(6)])
    reader = user(1)
    edges = np.array([edge(f"writer-{n}") for n in range(6)], np.uint64)
    reader.graph = GraphRow(follows=edges, follow_kinds=np.zeros(6, np.uint8))
    reader.row["author_fp"][:1], reader.row["author_pos"][:1] = fp64(b"writer-1") & LOW32, 512
    reader.row["author_fp"][1:] = 0
    other = user(2)
    assert {i for i, _ in named(following(query([other, reader], index)), index)[1]} == {
        "item-1",
        "item-5",
        "item-4",
    }


def test_affinity_makes_an_item_at_most_two_days_younger() -> None:
    index, reader, hour_ms = ItemIndex(100), user(1), 3_600_000
    ages_h = {"dear": 60, "new": 12, "old": 13}
    index.upsert([ItemRecord(f"by-{w}", w, AS_OF_MS - age * hour_ms) for w, age in ages_h.items()])
    edges = np.array([edge(w) for w in ("old", "dear", "new")], np.uint64)
    reader.graph = GraphRow(follows=edges, follow_kinds=np.zeros(3, np.uint8))
    reader.row["author_fp"][0] = fp64(b"dear") & LOW32
    for affinity, order in (
        (47, ["new", "old", "dear"]),
        (48, ["dear", "new", "old"]),
        (90, ["dear", "new", "old"]),
    ):
        reader.row["author_pos"][0], reader.row["author_neg"][0] = affinity * 256 + 255, 0
        found = named(gather(query([reader], index)), index)[0]
        assert [i for i, _ in found] == [f"by-{w}" for w in order]


def test_dot_products_are_exact_at_the_ends_of_int8() -> None:
    index, reader = ItemIndex(100), user(1)
    reader.row["embedding"] = 32_767
    reader.row["topic_fp"][0], reader.row["topic_pos"][0] = fp64(b"t") & LOW32, 90_000
    vectors = [np.full(64, v, np.int8) for v in (127, 127, -128, 126)]
    vectors[1][63] = 126  # one less in one of 64 places: a dot smaller by 127 of 1,032,256
    index.upsert([ItemRecord(f"item-{n}", "a", 5 + n, ("t",), v) for n, v in enumerate(vectors)])
    only = replace(SMALL, sources={"embedding": SourceLimit(9, 9)})
    assert [i for i, _ in named(gather(query([reader], index, only)), index)[0]] == [
        "item-0",
        "item-1",
        "item-3",
        "item-2",
    ]


def test_draws_differ_by_user_version_and_namespace() -> None:
    users = np.array([1, 2], np.uint64)
    seeds = [
        *draw_seeds(1, users, ["a", "a"]),
        *draw_seeds(1, users, ["b", "b"]),
        *draw_seeds(2, users, ["a"] * 2),
    ]
    assert len(set(map(int, seeds))) == 6


@pytest.mark.parametrize(
    "wrong",
    [{"candidates": 0}, {"cell_items": 1_001}, {"sources": {"trending": SourceLimit(3, 2)}}],
)
def test_limits_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="correct the policy"):
        CandidateLimits(**wrong)


def test_a_slice_of_too_many_users_is_refused() -> None:
    with pytest.raises(ValueError, match="65 users in a slice"):
        gather(query([user(n) for n in range(65)], ItemIndex(10)))


def test_an_empty_index_gives_no_candidates() -> None:
    found = gather(query([user(1)], ItemIndex(10)))
    assert found.failed == {}
    assert named(found, ItemIndex(10)) == [[]]
