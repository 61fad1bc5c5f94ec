"""A stretch of a partition that is read once more."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer

from streams.batch import RecordBatch
from streams.stretch import read_stretch
from tests.conftest import MakeTopic
from tests.streams.fakes import kafka_at, numbers, produce

pytestmark = pytest.mark.kafka


def read(kafka: str, topic: str, start: int, stop: int) -> list[tuple[int, bytes | None]]:
    """Offset and value of what comes."""
    found: list[tuple[int, bytes | None]] = []

    async def take(batch: RecordBatch) -> None:
        assert len(batch) <= 7
        found.extend(zip(batch.offsets.tolist(), batch.values, strict=True))

    asyncio.run(read_stretch(kafka_at(kafka), topic, start, stop, take, partition=1, records_max=7))
    return found


def test_it_begins_at_its_start_and_has_all_up_to_its_end(kafka: str, make_topic: MakeTopic) -> None:
    topic, sent = make_topic("stretch", partitions=2), numbers(500)
    asyncio.run(produce(kafka, topic, sent, 1))
    found = read(kafka, topic, 120, 300)
    assert found[:180] == [(n, sent[n][1]) for n in range(120, 300)]
    assert read(kafka, topic, 499, 500) == [(499, sent[499][1])]
    assert read(kafka, topic, 500, 500) == []


def test_it_ends_where_nothing_but_an_aborted_transaction_is_left(kafka: str, make_topic: MakeTopic) -> None:
    topic = make_topic("stretch", partitions=2)

    async def send() -> None:
        await produce(kafka, topic, numbers(3), 1)
        async with AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=topic) as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"never", partition=1)
            await producer.abort_transaction()

    asyncio.run(send())
    assert [offset for offset, _ in read(kafka, topic, 1, 5)] == [1, 2]
