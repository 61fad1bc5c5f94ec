"""The item index holds what the set of live items and derived records says, whatever happened on the way."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engagers import ENGAGER_ITEMS_MAX, NO_RANK
from models.fingerprint import fp64
from models.item_columns import ItemRecord
from models.item_index import AUTHOR_NEWEST, ItemIndex
from models.refresh import EXPLORE_IMPRESSIONS_MAX
from tests.models.index_world import AS_OF_MS, DAY_MS, World, derived, fps, play, record, steps, user_fp


def contents(index: ItemIndex) -> dict[str, Any]:
    """All that can be read from an index, by ids instead of numbers."""
    ids = index.ids
    out: dict[str, Any] = {}
    for slot in np.flatnonzero(index.live).tolist():
        assert index.lookup([index.fp[slot]])[0] == slot
        out[ids[slot]] = (
            index.author_ids[index.author[slot]],
            [index.topic_ids[t] for t in index.topics[slot] if t >= 0],
            index.created_ms.item(slot),
            index.title[slot],
            index.embedding[slot].tolist(),
            bool(index.has_embedding[slot]),
            index.derived[slot].tobytes(),
            index.trend.item(slot),
        )
    for name, groups in (("author", index.by_author), ("topic", index.by_topic)):
        for g, identifier in enumerate(groups.ids):
            if identifier:
                newest = [ids[i] for i in groups.window(g, AUTHOR_NEWEST)]
                out[f"{name} {identifier}"] = newest, groups.items.item(g), groups.sums[g].tolist()
    out["authors' newest"] = {
        identifier: [ids[i] for i in index.by_author.newest[g] if i >= 0]
        for g, identifier in enumerate(index.author_ids)
        if identifier
    }
    out["total"] = index.statistics.total.tolist()
    return out | lists(index)


def lists(index: ItemIndex) -> dict[str, Any]:
    made, ids = index.lists, index.ids
    topics = np.flatnonzero([bool(t) for t in index.topic_ids]).astype(np.int32)
    engaged = made.engagers.of(np.array([user_fp(u) & ((1 << 48) - 1) for u in range(12)], np.uint64))
    return {
        "trending": [ids[i] for i in made.trending],
        "explore": [ids[i] for i in made.explore],
        "by topic": {
            index.topic_ids[t]: [ids[i] for i in made.topic_trending.items[start:end]]
            for t, start, end in zip(topics, *made.topic_trending.of(topics), strict=True)
        },
        "engagers": [[ids[made.engagers.pool[r]] for r in row if r != NO_RANK] for row in engaged],
    }


def expected(world: World) -> dict[str, Any]:
    """The same lists by plain loops over the set."""
    items = {n: (r.created_ms, fp64(r.item_id.encode())) for n, r in world.items.items()}
    rows = {n: world.derived[n][0] for n in items if n in world.derived}

    def trend(n: int) -> int:
        def engagement(counts: np.ndarray) -> int:  # type: ignore[type-arg]
            return max(0, int(counts[1]) + 4 * int(counts[2]) - 8 * int(counts[3]))

        e1 = engagement(rows[n]["h1"])
        e24 = max(e1, engagement(rows[n]["h24"]))
        return (24 * e1 + e24) * 24 * (e1 + 5) // (e24 + 120)

    scored = sorted((n for n in rows if trend(n) > 0), key=lambda n: (trend(n), items[n][1]), reverse=True)
    new = [n for n in items if items[n][0] > AS_OF_MS - DAY_MS]
    few = [n for n in new if n not in rows or rows[n]["d7"][0] < EXPLORE_IMPRESSIONS_MAX]
    by_topic = defaultdict(list)
    for n in scored:
        for topic in list(dict.fromkeys(world.items[n].topics))[:4]:
            by_topic[topic].append(f"item-{n}")
    engaged = [n for n in rows if rows[n]["engagers"].any()]
    engaged.sort(key=lambda n: (int(rows[n]["last_s"]), items[n][1]), reverse=True)
    who = [user_fp(u) & ((1 << 48) - 1) for u in range(12)]
    return {
        "trending": [f"item-{n}" for n in scored],
        "explore": [f"item-{n}" for n in sorted(few, key=lambda n: items[n], reverse=True)],
        "by topic": {t: by_topic[t] for r in world.items.values() for t in list(dict.fromkeys(r.topics))[:4]},
        "engagers": [
            [f"item-{n}" for n in engaged if u in rows[n]["engagers"] >> np.uint64(16)][:ENGAGER_ITEMS_MAX]
            for u in who
        ],
    }


@settings(max_examples=60, deadline=None)
@given(steps, st.randoms())
def test_any_way_to_the_same_set_gives_the_same_index(told: list[Any], random: Any) -> None:
    index = ItemIndex(1_000)
    world = play(told, index)
    order = list(world.items)
    random.shuffle(order)
    assert contents(index) == contents(world.index(order))
    assert len(index) == len(world.items)
    assert lists(index) == expected(world)


def test_slices_of_a_refresh_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({n: record(n, n) for n in range(60)}, {n: derived(n, 1) for n in range(60)})
    whole = contents(world.index())
    monkeypatch.setattr("models.refresh.REFRESH_SLOTS", 7)
    monkeypatch.setattr("models.engagers._BUCKET_PAIRS", 5)
    assert contents(world.index()) == whole


def test_the_lists_are_cut_at_their_limits_by_rank_not_by_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({n: record(n, n) for n in range(60)}, {n: derived(n, 1) for n in range(60)})
    whole = lists(world.index())
    monkeypatch.setattr("models.refresh.TREND_POOL_MAX", 9)
    monkeypatch.setattr("models.refresh.EXPLORE_POOL_MAX", 9)
    monkeypatch.setattr("models.refresh.ENGAGED_POOL_MAX", 9)
    monkeypatch.setattr("models.refresh.REFRESH_SLOTS", 16)
    cut = lists(world.index())
    assert cut["trending"] == whole["trending"][:9]
    assert cut["explore"] == whole["explore"][:9]
    assert cut == lists(world.index(order=reversed(range(60))))


def test_beyond_the_limit_the_oldest_leave_in_any_order_of_arrival() -> None:
    records = [ItemRecord(f"item-{n}", "a", AS_OF_MS + (n // 3) * 1_000) for n in range(300)]
    by_recency = sorted(records, key=lambda r: (r.created_ms, fp64(r.item_id.encode())), reverse=True)
    random = np.random.default_rng(2)
    for _ in range(3):
        index = ItemIndex(100)
        for start in range(0, 300, 30):
            index.upsert([records[i] for i in random.permutation(300)[start : start + 30]])
            assert len(index) <= 101
        index.upsert(records)
        index.refresh(1, AS_OF_MS)
        assert {index.ids[i] for i in np.flatnonzero(index.live)} == {r.item_id for r in by_recency[:100]}
        assert [index.ids[i] for i in index.by_author.newest[0]] == [r.item_id for r in by_recency[:20]]
        assert index.evicted >= 200


def test_the_newest_items_stay_exact_when_many_of_them_are_removed() -> None:
    index, keep = ItemIndex(1_000), 3 * AUTHOR_NEWEST
    index.upsert([ItemRecord(f"item-{n}", "a", AS_OF_MS + n, ("t",)) for n in range(500)])
    for newest in range(499, 499 - keep, -1):
        index.remove(fps(newest))
        wanted = [f"item-{n}" for n in range(newest - 1, newest - 1 - AUTHOR_NEWEST, -1)]
        assert [index.ids[i] for i in index.by_author.newest[0]] == wanted


def test_a_new_item_is_among_its_authors_and_topics_newest_at_once() -> None:
    index = ItemIndex(100)
    index.upsert([ItemRecord("x", "ann", AS_OF_MS, ("cats",), np.full(64, 3, np.int8))])
    author = index.by_author.get(np.array([fp64(b"ann")], np.uint64))
    assert [index.ids[i] for i in index.by_author.newest[author[0]] if i >= 0] == ["x"]
    topic = index.by_topic.get(np.array([fp64(b"cats")], np.uint64)).item()
    cells = index.cells(10)
    (cell,) = cells.of([topic])
    assert [index.ids[i] for i in cells.items[cell] if i >= 0] == ["x"]
    assert cells.embedding[cell, 0].tolist() == [3.0] * 64


def test_a_removed_items_slot_is_not_used_again_while_a_list_names_it() -> None:
    index = ItemIndex(100)
    index.upsert([record(1, 3)])
    index.apply_derived(fps(1), derived(4, 1))
    index.refresh(1, AS_OF_MS)
    index.remove(fps(1))
    index.upsert([record(2, 5)])
    assert not index.live[index.lists.explore].any()
    index.refresh(2, AS_OF_MS)
    index.upsert([record(3, 5)])
    assert index.lookup(fps(3))[0] == 0


def test_removal_during_a_refresh_keeps_the_slot_free_until_the_next() -> None:
    index = ItemIndex(100)
    index.upsert([record(n, n) for n in range(5)])
    slices = index.refreshing(1, AS_OF_MS)
    next(slices)
    index.remove(fps(0))
    for _ in slices:
        index.upsert([record(9, 9)])
    index.upsert([record(10, 9)])
    named = {index.ids[i] for i in index.lists.explore}
    assert named <= {f"item-{n}" for n in range(1, 5)} | {""}


def test_features_may_come_before_their_item() -> None:
    index = ItemIndex(100)
    index.apply_derived(fps(1), derived(4, 2))
    index.apply_derived(fps(1), derived(5, 1))
    index.upsert([record(1, 1)])
    assert index.derived[index.lookup(fps(1))].tobytes() == derived(4, 2).tobytes()
    assert not len(index.waiting)


def test_features_without_items_are_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.waiting.DERIVED_WAITING_MAX", 3)
    index = ItemIndex(100)
    for n in range(5):
        index.apply_derived(fps(n), derived(n, 1))
    assert (len(index.waiting), index.waiting.lost) == (3, 2)


def test_attributes_of_unknown_items_are_zeros() -> None:
    index = ItemIndex(100)
    index.upsert([ItemRecord("item-1", "ann", 5, ("b", "a", "b"), np.full(64, -7, np.int8))])
    found = index.attributes(fps(1, 2))
    assert found.known.tolist() == [True, False]
    assert found.author_fp32.tolist() == [fp64(b"ann") & 0xFFFFFFFF, 0]
    assert found.topic_fp32.tolist() == [[fp64(b"b") & 0xFFFFFFFF, fp64(b"a") & 0xFFFFFFFF, 0, 0], [0] * 4]
    assert found.embedding.tolist() == [[-7] * 64, [0] * 64]


def test_a_bad_record_changes_nothing() -> None:
    index = ItemIndex(100)
    with pytest.raises(ValueError, match="embedding of shape"):
        index.upsert([record(1, 1), ItemRecord("bad", "a", 1, (), np.zeros(3, np.int8))])
    with pytest.raises(ValueError, match="created at -1"):
        index.upsert([record(1, 1), ItemRecord("bad", "a", -1)])
    assert len(index) == 0


def test_arrays_grow_beyond_what_was_reserved() -> None:
    index = ItemIndex(1)
    index.items_max = index._slack = 10_000
    index.upsert([ItemRecord(f"item-{n}", f"author-{n}", n) for n in range(3_000)])
    assert index.lookup(fps(0, 2_999)).tolist() == [0, 2_999]
    assert index.author_ids[index.author[2_999]] == "author-2999"


def test_a_refresh_of_many_items_yields_often() -> None:
    """Counted in slots, not in time: what a slice may read is bounded."""
    index = ItemIndex(200_000)
    index.upsert([ItemRecord(f"item-{n}", f"author-{n % 999}", n) for n in range(100_000)])
    slices = sum(1 for _ in index.refreshing(1, AS_OF_MS))
    assert slices >= 2 * (100_000 // 32_768)


def test_an_older_record_does_not_replace_a_newer_one() -> None:
    index = ItemIndex(100)
    index.upsert([record(1, 1)])
    index.apply_derived(fps(1), derived(4, 7))
    index.apply_derived(fps(1), derived(5, 6))
    assert index.derived[index.lookup(fps(1))].tobytes() == derived(4, 7).tobytes()
    assert index.statistics.total[0].tolist() == derived(4, 7)["h1"][0].tolist()


def test_a_cell_follows_its_topic() -> None:
    index = ItemIndex(100)
    index.upsert([ItemRecord(f"item-{n}", "ann", n, ("cats",)) for n in range(4)])
    topic, cells = index.topics[0, 0].item(), index.cells(3)

    def read() -> list[str]:
        (cell,) = cells.of([topic])
        return [index.ids[i] for i in cells.items[cell] if i >= 0]

    assert read() == ["item-3", "item-2", "item-1"]
    index.remove(fps(2))
    assert read() == ["item-3", "item-1", "item-0"]
    index.upsert([ItemRecord("item-0", "ann", 9, ("cats",), np.full(64, 5, np.int8))])
    assert read() == ["item-0", "item-3", "item-1"]
    assert cells.embedding[cells.of([topic])[0], 0].tolist() == [5.0] * 64


def test_more_topics_than_cells_are_all_read_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.cells.CELLS_BYTES_MAX", 0)
    index = ItemIndex(1_000)
    index.upsert([ItemRecord(f"item-{n}", "ann", n, (f"topic-{n}",)) for n in range(200)])
    cells = index.cells(2)
    for start in (0, 100, 30, 0, 140):
        slots = np.arange(start, start + 60)
        found = cells.items[cells.of(index.topics[slots, 0].tolist())]
        assert found[:, 0].tolist() == slots.tolist()
        assert (found[:, 1] == -1).all()
