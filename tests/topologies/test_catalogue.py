"""The item index of a worker: what its two readers bring, when it is refreshed."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import orjson
import pytest

from models.fingerprint import fp64
from models.item_index import ItemIndex
from models.items import DERIVED
from streams.batch import RecordBatch
from streams.codec import ItemDecoder
from streams.errors import ExitCode, OperatorError
from streams.turns import Turns
from tests.topologies.in_process import AtOnce, run
from tests.waiting import GUARD_S
from topologies import bad_items
from topologies.catalogue import Catalogue
from topologies.item_keys import keys_of
from topologies.item_shard import MARKER_KEY
from topologies.staged import TICKS_MAX, Staged
from topologies.ticks import NEVER, tick_marker

NOW_MS = 1_700_000_000_000


def made(partitions: int = 2) -> tuple[Catalogue, list[int]]:
    """A catalogue, and the fps that it announced."""
    heard: list[int] = []
    decoder = ItemDecoder("json")
    index, turns = ItemIndex(1_000), AtOnce()
    one = Catalogue(index, decoder, None, partitions, lambda f: heard.extend(f.tolist()), turns=turns)
    return one, heard


async def rounds() -> None:
    """What is ready to run has run."""
    for _ in range(200):
        await asyncio.sleep(0)


def batch(
    records: list[tuple[bytes | None, bytes | None]], partition: int = 0, start: int = 0
) -> RecordBatch:
    offsets = np.arange(start, start + len(records))
    times = np.full(len(records), NOW_MS)
    keys, values = [k for k, _ in records], [v for _, v in records]
    return RecordBatch("feedrank.items", partition, start, start + len(records), offsets, times, keys, values)


def item(identifier: str, author: str = "ann", **more: Any) -> tuple[bytes, bytes]:
    value = {"item_id": identifier, "author": author, "created_at": NOW_MS, "topics": ["a"], **more}
    return identifier.encode(), orjson.dumps(value)


def marker(tick: int) -> tuple[bytes, bytes]:
    return MARKER_KEY, tick_marker(tick, tick * 10, [tick], 0)


def record(identifier: str, tick: int, impressions: int) -> tuple[bytes, bytes]:
    row = np.zeros(1, DERIVED)
    row["tick"], row["d7"][0, 0] = tick, impressions
    return keys_of(np.array([fp64(identifier.encode())], np.uint64))[0], row.tobytes()


def impressions(one: Catalogue, identifier: str) -> int:
    slot = one.index.lookup(np.array([fp64(identifier.encode())], np.uint64))[0]
    return int(one.index.derived["d7"][slot, 0])


def test_items_come_change_and_go_and_are_announced() -> None:
    one, heard = made()
    run(one.items_came(batch([item("i1"), item("i2"), item("i1", author="bob")])))
    assert len(one.index) == 2
    assert sorted(heard) == sorted(fp64(i) for i in (b"i1", b"i2"))
    assert one.live(np.array([fp64(b"i1"), fp64(b"i3")], np.uint64)).tolist() == [True, False]
    run(one.items_came(batch([(b"i1", None)], start=3)))
    assert len(one.index) == 1
    assert len(heard) == 2
    assert one.items_next == {0: 4}


def test_an_item_whose_author_nobody_knows_is_an_item_like_any_other() -> None:
    one, _ = made()
    run(one.items_came(batch([item("i1", author="nobody ever heard of")])))
    slot = one.index.lookup(np.array([fp64(b"i1")], np.uint64))[0]
    assert one.index.author_ids[one.index.author[slot]] == "nobody ever heard of"


def test_bad_items_stand_by_partition_in_order_and_the_others_go_on() -> None:
    one, _ = made()
    run(one.items_came(batch([(b"i1", b"{"), item("i2")], partition=1)))
    run(one.items_came(batch([(b"i3", b"["), item("i4")], partition=1, start=2)))
    assert len(one.index) == 2
    assert {p: [bad.offset for bad in letters] for p, letters in one.bad_items.letters.items()} == {1: [0, 2]}
    assert one.items_next == {1: 4}


@pytest.mark.parametrize(("limit", "value"), [("KEPT_MAX", 3), ("KEPT_BYTES_MAX", 6)])
def test_of_too_many_bad_items_the_newest_are_kept(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(bad_items, limit, value)
    one, _ = made()
    run(one.items_came(batch([(b"i", b"{")] * 5)))
    assert [bad.offset for bad in one.bad_items.letters[0]] == [2, 3, 4]
    assert one.bad_items.complete_from[0] == 2


def test_derived_records_come_and_go_before_and_after_their_items() -> None:
    one, _ = made()
    run(one.features_came(batch([record("i1", 3, 7), record("i2", 3, 1), record("i1", 4, 9)])))
    run(one.items_came(batch([item("i1"), item("i2")])))
    assert (impressions(one, "i1"), impressions(one, "i2")) == (9, 1)
    run(one.features_came(batch([record("i1", 3, 5), (record("i2", 0, 0)[0], None)], start=3)))
    assert (impressions(one, "i1"), impressions(one, "i2")) == (9, 0)


def test_statistics_of_a_tick_enter_the_index_together_and_none_of_a_later_one() -> None:
    one, _ = made()
    run(one.items_came(batch([item("a0"), item("b0")])))
    for partition, name in ((0, "a0"), (1, "b0")):
        run(one.features_came(batch([record(name, 3, 7), marker(3)], partition)))
    run(one.refresh(3, 30))
    seen = []
    for partition, records in (
        (0, [record("a0", 4, 8), marker(4), record("a0", 5, 9)]),
        (0, [marker(5)]),
        (1, [record("b0", 4, 2), marker(4)]),
    ):
        run(one.features_came(batch(records, partition)))
        seen.append((impressions(one, "a0"), impressions(one, "b0")))
    assert seen == [(7, 7)] * 3
    run(one.refresh(4, 40))
    assert (impressions(one, "a0"), impressions(one, "b0"), one.positions) == (8, 2, [4])
    run(one.features_came(batch([marker(6)], 1)))
    run(one.refresh(5, 50))
    assert (impressions(one, "a0"), one.positions) == (9, [4])


def test_what_is_older_than_the_first_marker_is_there_at_once() -> None:
    one, _ = made(partitions=1)
    run(one.items_came(batch([item("i")])))
    run(one.features_came(batch([record("i", 3, 7)])))
    run(one.features_came(batch([record("i", 4, 8), marker(4), record("i", 5, 9)])))
    assert impressions(one, "i") == 8


def test_a_worker_that_starts_ranks_at_a_tick_without_later_statistics() -> None:
    """One partition is read before the other, and is further; only the end of long logs is kept apart."""
    one, _ = made()
    run(one.items_came(batch([item("a0"), item("b0")])))
    last = 3 * TICKS_MAX
    ahead = [part for tick in range(1, last) for part in (record("a0", tick, tick), marker(tick))]
    run(one.features_came(batch([*ahead, record("a0", last, 999)], 0)))
    assert impressions(one, "a0") == last - 1 - TICKS_MAX
    run(one.features_came(batch([record("b0", last - 2, 5), marker(last - 2)], 1)))
    run(one.refresh(last - 2, 10 * (last - 2)))
    assert (impressions(one, "a0"), impressions(one, "b0"), one.positions) == (last - 2, 5, [last - 2])


def test_ticks_that_wait_for_a_partition_without_owner_become_one() -> None:
    part = Staged()
    for tick in range(1, 100):
        part.came({b"k%d" % (tick % 3): b"%d" % tick} | ({b"old": b"1"} if tick == 1 else {}))
        part.marked(tick, [tick])
        if (oldest := part.crowded()) is not None:
            part.join(oldest.records)
    ticks = part.until(99)
    assert len(ticks) == TICKS_MAX
    assert (ticks[0].tick, ticks[0].records[b"old"], ticks[0].positions) == (99 - TICKS_MAX + 1, b"1", [84])
    merged: dict[bytes, bytes | None] = {}
    for one in ticks:
        merged |= one.records
    assert merged == {b"old": b"1", b"k0": b"99", b"k1": b"97", b"k2": b"98"}


@pytest.mark.parametrize("bad", [(b"12345678", b"short"), (b"1234", bytes(DERIVED.itemsize))])
def test_a_record_that_is_no_item_statistic_says_what_to_do(bad: tuple[bytes, bytes]) -> None:
    one, _ = made()
    with pytest.raises(OperatorError, match="rebuild into a new namespace") as failed:
        run(one.features_came(batch([record("i1", 1, 1), bad])))
    assert failed.value.exit_code == ExitCode.TOPICS_WRONG


def test_the_index_is_refreshed_at_the_tick_that_all_partitions_have_reached() -> None:
    async def ticks() -> list[tuple[int, int]]:
        one, _ = made(partitions=3)
        fresh = asyncio.create_task(one.keep_fresh())
        seen = []
        for partition, tick in ((0, 5), (1, 5), (2, 4), (2, 6), (0, 9), (1, 8)):
            await one.features_came(batch([marker(tick)], partition))
            await rounds()
            seen.append((one.tick, one.as_of_ms))
        fresh.cancel()
        return seen

    assert asyncio.run(ticks()) == [(NEVER, 0), (NEVER, 0), (4, 40), (5, 50), (5, 50), (6, 60)]


def test_who_waits_for_a_tick_goes_on_at_that_tick_or_a_later_one() -> None:
    async def waits() -> list[int]:
        one, _ = made(partitions=1)
        fresh = asyncio.create_task(one.keep_fresh())
        reached: list[int] = []

        async def wait(tick: int) -> None:
            await one.reached(tick)
            reached.append(tick)

        waiting = [asyncio.create_task(wait(tick)) for tick in (3, 1, 7)]
        for tick in (1, 4):
            await one.features_came(batch([marker(tick)]))
            await rounds()
        for task in (*waiting, fresh):
            task.cancel()
        return reached

    assert asyncio.run(waits()) == [1, 3]


def test_a_refresh_never_goes_back_and_two_take_turns() -> None:
    async def two() -> tuple[int, int]:
        one, _ = made(partitions=1)
        await asyncio.gather(one.refresh(7, 70), one.refresh(6, 60))
        return one.tick, one.as_of_ms

    assert asyncio.run(two()) == (7, 70)


def test_times_of_past_ticks_are_forgotten() -> None:
    one, _ = made(partitions=1)
    for tick in range(1, 50):
        run(one.features_came(batch([marker(tick)])))
        run(one.refresh(tick, tick * 10))
    assert one._as_of_ms == {}


def test_nothing_changes_in_the_index_while_feeds_are_ranked_from_it() -> None:
    async def scene() -> list[int]:
        turns, release, seen = Turns(), threading.Event(), list[int]()
        turns.open_thread()
        one = Catalogue(ItemIndex(100), ItemDecoder("json"), None, 1, lambda fps: None, turns=turns)

        async def ranked() -> None:
            await turns.take("rank")
            await turns.beside(lambda: release.wait(GUARD_S))

        ranking = asyncio.create_task(ranked())
        await rounds()
        changes = [
            asyncio.create_task(one.items_came(batch([item("i1")]))),
            asyncio.create_task(one.features_came(batch([marker(3)]))),
            asyncio.create_task(one.refresh(3, 30)),
        ]
        await rounds()
        seen += [len(one.index), one.tick]
        release.set()
        await asyncio.gather(ranking, *changes)
        turns.close_thread()
        return [*seen, len(one.index), one.tick]

    assert asyncio.run(scene()) == [0, NEVER, 1, 3]
