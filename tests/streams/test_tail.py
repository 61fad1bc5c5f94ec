"""Tailing readers: everything from the start, in order, once; caught up means what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from streams.batch import RecordBatch
from streams.block import BlockBatch
from streams.tail import TailReader
from tests.conftest import MakeTopic
from tests.services import Kafka, create_topic
from tests.streams.fakes import kafka_at, numbers, produce, until
from tests.waiting import GUARD_S

pytestmark = pytest.mark.kafka


class Seen:
    """What a reader was given, by partition."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]] = {}
        self.failures: list[BaseException] = []
        self.blocks = 0

    def take(self, batch: RecordBatch) -> None:
        self.blocks += isinstance(batch, BlockBatch)
        rows = self.rows.setdefault((batch.topic, batch.partition), [])
        rows += zip(batch.keys, batch.values, strict=True)


@asynccontextmanager
async def tailing(kafka: str, *topics: str, **how: bool) -> AsyncIterator[tuple[TailReader, Seen]]:
    seen = Seen()
    reader = TailReader(kafka_at(kafka), topics, seen.take, seen.failures.append, **how)  # type: ignore[arg-type]
    reader.start()
    try:
        yield reader, seen
    finally:
        await reader.stop()


@pytest.mark.parametrize("in_blocks", [False, True])
def test_all_partitions_of_all_topics_from_the_start(
    kafka: str, make_topic: MakeTopic, in_blocks: bool
) -> None:
    """In blocks only where it is asked for: who wants records one by one would wait for all of a block."""
    items, features = make_topic("items", partitions=2), make_topic("features")

    async def story() -> None:
        sent = numbers(2_500)
        await produce(kafka, items, sent, 0)
        await produce(kafka, items, sent[:10], 1)
        await produce(kafka, features, sent[:20], 0)
        async with tailing(kafka, items, features, in_blocks=in_blocks) as (reader, seen):
            await reader.caught_up(GUARD_S)
            assert (seen.blocks > 0) == in_blocks
            assert seen.rows == {(items, 0): sent, (items, 1): sent[:10], (features, 0): sent[:20]}
            assert reader.lag == 0
            assert reader.progress == (2_530, 2_530)

    asyncio.run(story())


def test_ends_of_topics_that_it_does_not_read(kafka: str, make_topic: MakeTopic) -> None:
    items, other = make_topic("items"), make_topic("other", partitions=2)
    ends = {TopicPartition(other, 0): 7, TopicPartition(other, 1): 0}

    async def story() -> None:
        await produce(kafka, other, numbers(7), 0)
        async with tailing(kafka, items) as (reader, _):
            assert await reader.ends_of(ends) == {}
            await reader.caught_up(GUARD_S)
            assert await reader.ends_of(ends) == ends

    asyncio.run(story())


def test_caught_up_includes_what_was_there_when_asked(kafka: str, make_topic: MakeTopic) -> None:
    items = make_topic("items")

    async def story() -> None:
        async with tailing(kafka, items) as (reader, seen):
            await reader.caught_up(GUARD_S)
            assert seen.rows == {}
            for at in range(3):
                await produce(kafka, items, numbers(5))
                await reader.caught_up(GUARD_S)
                assert len(seen.rows[items, 0]) == 5 * (at + 1)

    asyncio.run(story())


def test_what_is_handed_out_and_not_given_away_yet_is_not_caught_up(
    kafka: str, make_topic: MakeTopic
) -> None:
    """An index that is still taking in items must not let ingest go on as if it knew them."""
    items = make_topic("items")

    async def story() -> None:
        began, go_on, seen = asyncio.Event(), asyncio.Event(), list[int]()

        async def slowly(batch: RecordBatch) -> None:
            began.set()
            await go_on.wait()
            seen.append(len(batch))

        reader = TailReader(kafka_at(kafka), [items], slowly, lambda error: None, records_max=2)
        reader.start()
        try:
            await reader.caught_up(GUARD_S)
            end = await produce(kafka, items, numbers(6))
            await began.wait()
            assert not reader._reached({TopicPartition(items, 0): end})
            go_on.set()
            await reader.caught_up(GUARD_S)
            assert sum(seen) == 6
        finally:
            await reader.stop()

    asyncio.run(story())


def test_open_and_aborted_transactions_are_not_read(kafka: str, make_topic: MakeTopic) -> None:
    features = make_topic("features")

    async def story() -> None:
        async with (
            tailing(kafka, features) as (reader, seen),
            AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{features}-writer") as producer,
        ):
            for value, keep in ((b"yes", True), (b"no", False), (b"yes too", True)):
                await producer.begin_transaction()
                await producer.send_and_wait(features, value, b"k", partition=0)
                if keep:
                    await producer.commit_transaction()
                else:
                    await producer.abort_transaction()
            await producer.begin_transaction()
            await producer.send_and_wait(features, b"not yet", b"k", partition=0)
            await until(lambda: len(seen.rows.get((features, 0), [])) == 2)
            await reader.caught_up(GUARD_S)
            assert [value for _, value in seen.rows[features, 0]] == [b"yes", b"yes too"]
            await producer.commit_transaction()
            await until(lambda: len(seen.rows[features, 0]) == 3)

    asyncio.run(story())


def test_a_reader_of_uncommitted_records_does_not_wait_for_them(kafka: str, make_topic: MakeTopic) -> None:
    items = make_topic("items")

    async def story() -> None:
        async with (
            tailing(kafka, items, committed=False) as (reader, seen),
            AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{items}-writer") as producer,
        ):
            await producer.begin_transaction()
            await producer.send_and_wait(items, b"open", b"k", partition=0)
            await reader.caught_up(GUARD_S)
            assert seen.rows[items, 0] == [(b"k", b"open")]
            await producer.abort_transaction()

    asyncio.run(story())


def test_an_error_of_the_callback_ends_the_reader_and_is_told(kafka: str, make_topic: MakeTopic) -> None:
    items = make_topic("items")

    async def story() -> None:
        failures: list[BaseException] = []

        async def refuse(batch: RecordBatch) -> None:
            raise ValueError("cannot")

        reader = TailReader(kafka_at(kafka), [items], refuse, failures.append)
        await produce(kafka, items, numbers(1))
        reader.start()
        await until(lambda: bool(failures))
        assert str(failures[0]) == "cannot"
        await reader.stop()

    asyncio.run(story())


def test_waiting_in_vain_says_what_is_missing() -> None:
    async def story() -> None:
        async with tailing("127.0.0.1:1", "items") as (reader, _):
            with pytest.raises(TimeoutError, match="Kafka does not answer: check the brokers"):
                await reader.caught_up(0.3)

    asyncio.run(story())


@pytest.mark.full
def test_it_goes_on_where_it_was_after_the_broker_came_back(private_kafka: Kafka) -> None:
    items = create_topic(private_kafka.bootstrap, "items", 2)

    async def story() -> None:
        bootstrap = private_kafka.bootstrap
        await produce(bootstrap, items, numbers(50), 0)
        async with tailing(bootstrap, items) as (reader, seen):
            await reader.caught_up(GUARD_S)
            await asyncio.to_thread(private_kafka.restart)
            await produce(bootstrap, items, numbers(80)[50:], 0)
            await reader.caught_up(20)
            assert seen.rows[items, 0] == numbers(80)
            assert seen.failures == []

    asyncio.run(story())
