"""Activities on their way to Kafka: keyed, partitioned and encoded as the worker expects them."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import fastavro
import pytest
from confluent_kafka import Consumer, TopicPartition

from demo.embedded import start_kafka
from serving import sink as sinks
from serving.activities import visit
from serving.sink import ActivitiesUnavailableError, KafkaSink
from streams.codec.encode import encode_activity
from tests.services import free_port
from tests.waiting import GUARD_S
from wire.names import ACTIVITIES
from wire.partitioner import partition_of

NOW_MS = 1_700_000_000_000
PARTITIONS = 4
SCHEMA = fastavro.parse_schema(
    json.loads(files("wire").joinpath("schemas", "activity.avsc").read_text(encoding="utf-8"))
)


@pytest.fixture(scope="module")
def mock_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = start_kafka(tmp_path_factory.mktemp("kafka"))
    yield server.address
    server.stop()


def consume(bootstrap: str, records: int) -> list[tuple[int, bytes, dict[str, Any]]]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "t", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(ACTIVITIES, p, 0) for p in range(PARTITIONS)])
    found = []
    while len(found) < records:
        message = consumer.poll(GUARD_S)
        assert message is not None
        value, key, partition = message.value(), message.key(), message.partition()
        assert isinstance(value, bytes)
        assert isinstance(key, bytes)
        assert partition is not None
        assert value[:5] == b"\0\0\0\0\0"
        body: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), SCHEMA, None)
        found.append((partition, key, body))
    consumer.close()
    return found


def test_activities_arrive_where_the_worker_looks_for_them(mock_kafka: str) -> None:
    users = ["ann", "bob", "cecilia", "dörte", "e/f"]
    sink = KafkaSink({"bootstrap.servers": mock_kafka}, encode_activity)
    asyncio.run(sink.send([visit(user, "visit", NOW_MS) for user in users]))
    sink.offer(visit("later", "visit", NOW_MS))
    sink.close()
    assert sink.failed == 0
    got = consume(mock_kafka, len(users) + 1)
    assert sorted(body["actor"] for _, _, body in got) == sorted([*users, "later"])
    for partition, key, body in got:
        assert key.decode() == body["actor"]
        assert partition == partition_of(key, PARTITIONS)


def test_a_kafka_that_is_away_is_one_typed_error_in_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sinks, "DELIVERY_MS", 200)
    monkeypatch.setattr(sinks, "COMPLAINT_S", 0.0)
    monkeypatch.setattr(sinks, "STOP_S", GUARD_S)
    where = f"127.0.0.1:{free_port()}"
    sink = KafkaSink({"bootstrap.servers": where}, encode_activity)
    with pytest.raises(ActivitiesUnavailableError, match=rf"Kafka at {where} .*KAFKA_BOOTSTRAP_SERVERS"):
        asyncio.run(sink.send([visit("ann", "visit", NOW_MS)]))
    sink.offer(visit("ann", "visit", NOW_MS))
    sink.close()
    assert sink.failed == 2
    told, lost = (record.getMessage() for record in caplog.records)
    assert told.startswith(f"Kafka at {where} does not take activities: ")
    assert "so far 1 activities refused, whose senders know to repeat them, and 0 visits lost" in told
    assert "so far 1 activities refused, whose senders know to repeat them, and 1 visits lost" in lost
    assert "ann" not in caplog.text
