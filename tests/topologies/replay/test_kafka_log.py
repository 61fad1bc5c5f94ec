"""A stretch of a topic by time: which offsets it is, what is read of it, and what Kafka no longer has."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.concerns import KafkaSettings
from streams.errors import ExitCode, OperatorError
from tests.conftest import MakeTopic
from topologies.replay.kafka_log import KafkaLog, find_range

pytestmark = pytest.mark.kafka


@pytest.fixture
def topic(make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch) -> str:
    name = make_topic("activities", partitions=2)
    monkeypatch.setattr("topologies.replay.kafka_log.ACTIVITIES", name)
    monkeypatch.setattr("topologies.replay.kafka_log.ITEMS", make_topic("items"))
    return name


def settings(kafka: str) -> KafkaSettings:
    return KafkaSettings(KAFKA_BOOTSTRAP_SERVERS=kafka)  # type: ignore[call-arg]


def send(kafka: str, topic: str, times_ms: list[int], partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    for at_ms in times_ms:
        producer.produce(topic, b"%d" % at_ms, b"k", partition, timestamp=at_ms)
    producer.flush()


async def read(log: KafkaLog, start: int, end: int) -> tuple[list[int], list[tuple[int, int]]]:
    batches = [batch async for batch in log.activities(0, start, end)]
    offsets = [offset for batch in batches for offset in batch.offsets.tolist()]
    return offsets, [(batch.start, batch.next_offset) for batch in batches]


def test_a_time_is_the_first_record_that_is_not_before_it(kafka: str, topic: str) -> None:
    send(kafka, topic, [1_000, 2_000, 5_000, 3_000, 6_000])  # one clock is late
    send(kafka, topic, [4_000], partition=1)
    found = find_range(settings(kafka), 2_000, 5_500)
    assert found.starts == {0: 1, 1: 0}
    assert found.ends == {0: 4, 1: 1}
    assert found.older_behind == ()
    assert find_range(settings(kafka), None, 4_500).older_behind == (0,)  # 3,000 stands behind 5,000
    whole = find_range(settings(kafka), None, None)
    assert (whole.starts, whole.ends, whole.lost) == ({0: 0, 1: 0}, {0: 5, 1: 1}, 0)
    nothing = find_range(settings(kafka), 7_000, 9_000)
    assert nothing.starts == nothing.ends == {0: 5, 1: 1}
    offsets, joints = asyncio.run(read(KafkaLog(settings(kafka), {}, 2), 1, 4))
    assert [offset for offset in offsets if offset < 4] == [1, 2, 3]
    assert joints[0][0] == 1


def test_aborted_records_and_markers_are_passed_over(kafka: str, topic: str, namespace: str) -> None:
    send(kafka, topic, [1_000, 2_000])
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": namespace})
    producer.init_transactions()
    for commit in (True, False, True, False):
        producer.begin_transaction()
        producer.produce(topic, b"x", b"k", 0, timestamp=3_000)
        producer.flush()
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    found = find_range(settings(kafka), None, None)
    end = found.ends[0]
    offsets, joints = asyncio.run(read(KafkaLog(settings(kafka), {}, 100), 0, end))
    assert offsets == [0, 1, 2, 6]
    assert joints[-1][1] == end == 10
    assert asyncio.run(read(KafkaLog(settings(kafka), {}, 100), end, end)) == ([], [])


def test_what_kafka_has_deleted_is_told(kafka: str, topic: str) -> None:
    send(kafka, topic, [1_000, 2_000, 3_000, 4_000])
    admin = AdminClient({"bootstrap.servers": kafka})
    for done in admin.delete_records([TopicPartition(topic, 0, 2)]).values():
        done.result(30)
    with pytest.raises(OperatorError, match=r"begins at 3000 ms, 2 records before were deleted") as refused:
        find_range(settings(kafka), 1_500, None)
    assert refused.value.exit_code is ExitCode.POSITION_OUTSIDE_LOG
    assert find_range(settings(kafka), 3_000, None).starts[0] == 2
    assert find_range(settings(kafka), None, None).lost == 2
    with pytest.raises(OperatorError, match="Kafka has deleted 1 records of the range meanwhile"):
        asyncio.run(read(KafkaLog(settings(kafka), {}, 100), 1, 4))
