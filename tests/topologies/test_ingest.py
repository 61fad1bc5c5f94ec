"""Ingest: when a shard waits for items, and what it demands of memory."""

from __future__ import annotations

import asyncio

import pytest

from streams.batch import RecordBatch
from streams.codec import SchemaPending
from streams.errors import ExitCode, OperatorError
from tests.oracle.records import Activity, Item
from tests.streams.counted import counted
from tests.topologies.in_process import LocalWorker, Sizes
from tests.topologies.outside import USERS, Board, Heads, Topics
from tests.topologies.test_in_process import policy

NOW_MS = 1_700_000_000_000


class Waits(LocalWorker):
    """Counts how often ingest waits for the items topic."""

    waits = 0

    async def caught_up(self, timeout_s: float | None = None) -> None:
        self.waits += 1
        await super().caught_up(timeout_s)


def ready(sizes: Sizes | None = None) -> Waits:
    one = Waits(Topics(1), policy(), sizes or Sizes(), Heads(), Board(), {})
    one.open((USERS, 0))
    return one


def likes(one: Waits, count: int, item: str, start: int = 0, user: str = "ann") -> None:
    for n in range(start, start + count):
        one.topics.produce(Activity(f"a-{n}", user, "like", item, NOW_MS + n))


def test_only_a_full_ring_with_an_unknown_item_waits() -> None:
    one = ready()
    one.topics.produce(Item("i", "author", NOW_MS))
    likes(one, 40, "i")
    one.ingest((USERS, 0), 15)
    assert one.waits == 0
    one.ingest((USERS, 0), 10)
    assert one.waits == 1
    one.ingest((USERS, 0), 15)
    assert one.waits == 1
    assert one.users.shards[0].state.rows.arena.rows["author_fp"][0].any()


def test_items_that_do_not_exist_cost_one_wait_for_all_activities_that_are_in_the_log() -> None:
    one = ready()
    likes(one, 100, "gone")
    for _ in range(10):
        one.ingest((USERS, 0), 10)
    assert one.waits == 1
    one.topics.produce(Item("i", "author", NOW_MS))
    likes(one, 20, "i", start=100)
    one.ingest((USERS, 0), 20)
    assert one.waits == 2
    assert one.users.shards[0].state.rows.arena.rows["author_fp"][0].any()


def test_visits_of_the_feed_wait_for_nothing() -> None:
    one = ready()
    for n in range(40):
        one.topics.produce(Activity(f"v-{n}", "ann", "visit", "feed", NOW_MS + n))
    one.ingest((USERS, 0), 40)
    assert one.waits == 0
    assert one.users.shards[0].state.rows.arena.rows["engaged"][0] == 0


def test_bad_records_are_looked_at_in_parts_with_a_turn_of_the_loop_between_them() -> None:
    one, held = ready(), []
    one.topics.activities[0] += [
        None if n % 2 else Activity(f"a-{n}", "ann", "like", "i", NOW_MS + n) for n in range(40)
    ]
    decode = one.user_ingest.decoder.decode_batch

    def counted(batch: RecordBatch) -> object:
        held.append(len(batch))
        return decode(batch)

    one.user_ingest.decoder.decode_batch = counted  # type: ignore[method-assign, assignment]
    one.ingest((USERS, 0), 40)
    assert (max(held), sum(held)) == (3, 40)
    ledger = one.users.shards[0].state.ledger
    assert (ledger.applied, ledger.dead) == (20, 20)


def test_a_batch_without_a_good_record_is_counted() -> None:
    one = ready()
    one.topics.activities[0] += [None] * 3
    one.ingest((USERS, 0), 3)
    metrics = one.user_ingest.metrics
    assert counted(metrics.dead_letters) == 3
    assert metrics.registry.get_sample_value("feedrank_activities_total", {"outcome": "dead"}) == 3


def test_a_slice_of_more_users_than_fit_says_what_to_do() -> None:
    one = ready(Sizes(users=4))
    for n in range(5):
        likes(one, 1, "i", start=n, user=f"user-{n}")
    with pytest.raises(OperatorError, match="raise ARENA_ROWS_MAX or lower INGEST_RECORDS_MAX") as failed:
        one.ingest((USERS, 0), 5)
    assert failed.value.exit_code == ExitCode.USAGE


class AnswersLater:
    """A registry that knows nothing until it is told to."""

    def __init__(self) -> None:
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    async def fetch(self, schema_ids: frozenset[int]) -> None:
        self.asked.set()
        await self.answers.wait()


def test_a_partition_that_waits_for_a_schema_holds_up_no_other() -> None:
    one = Waits(Topics(2), policy(), Sizes(), Heads(), Board(), {})
    for n, user in enumerate(("ann", "bob", "cat", "dan")):
        likes(one, 3, "i", start=3 * n, user=user)
    for partition in (0, 1):
        assert one.topics.activities[partition], "both partitions have users"
        one.open((USERS, partition))
    ingest, registry = one.user_ingest, AnswersLater()
    decode, ingest.registry = ingest.decoder.decode_batch, registry  # type: ignore[assignment]

    def pending(found: RecordBatch) -> object:
        if found.partition == 0 and not registry.answers.is_set():
            raise SchemaPending(frozenset({7}))
        return decode(found)

    ingest.decoder.decode_batch = pending  # type: ignore[method-assign, assignment]

    async def story() -> None:
        waiting = asyncio.create_task(ingest.apply(one.users.shards[0], one.batch((USERS, 0), 100)))
        await registry.asked.wait()
        await ingest.apply(one.users.shards[1], one.batch((USERS, 1), 100))
        assert one.users.shards[1].state.ledger.applied == len(one.topics.activities[1])
        assert not waiting.done()
        assert one.users.shards[0].state.ledger.applied == 0
        registry.answers.set()
        await waiting

    asyncio.run(story())
    assert one.users.shards[0].state.ledger.applied == len(one.topics.activities[0])
