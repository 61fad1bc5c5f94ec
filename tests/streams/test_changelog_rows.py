"""Rows read beside their worker: the newest committed ones, of whole checkpoints only."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from streams.changelog_rows import ChangelogRows
from streams.concerns import KafkaSettings
from streams.durable import POSITION_KEY
from streams.errors import ExitCode, OperatorError
from streams.past_records import values_from
from tests.conftest import MakeTopic
from tests.services import free_port
from tests.waiting import GUARD_S, until

pytestmark = pytest.mark.kafka

Rows = list[tuple[bytes, bytes | None]]


def settings(bootstrap: str) -> KafkaSettings:
    return KafkaSettings(KAFKA_BOOTSTRAP_SERVERS=bootstrap)  # type: ignore[call-arg]


def commit(bootstrap: str, topic: str, rows: Rows, whole: bool = True) -> None:
    """One transaction into partition 1; not `whole`: it is aborted."""
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"{topic}-writer"})
    producer.init_transactions(GUARD_S)
    producer.begin_transaction()
    for key, value in rows:
        producer.produce(topic, value, key, 1)
    assert producer.flush(GUARD_S) == 0
    if whole:
        producer.commit_transaction(GUARD_S)
    else:
        producer.abort_transaction(GUARD_S)


def newest(bootstrap: str, topic: str, partition: int = 1) -> dict[bytes, bytes]:
    with ChangelogRows(settings(bootstrap), topic) as rows:
        assert rows.partitions == 2
        return rows.newest(partition, lambda key: key != b"uother")


def test_only_whole_committed_checkpoints_count(kafka: str, make_topic: MakeTopic) -> None:
    topic = make_topic("users-changelog", partitions=2, cleanup_policy="compact")
    assert newest(kafka, topic) == {}
    commit(kafka, topic, [(b"uann", b"1"), (b"ubob", b"1"), (b"uother", b"1"), (POSITION_KEY, b"p1")])
    commit(kafka, topic, [(b"uann", b"2"), (b"ubob", None), (POSITION_KEY, b"p2")])
    commit(kafka, topic, [(b"uann", b"3"), (POSITION_KEY, b"p3")], whole=False)
    whole = {b"uann": b"2", POSITION_KEY: b"p2"}
    until(lambda: newest(kafka, topic) == whole, "a commit shows a few ms after its answer, or later")
    commit(kafka, topic, [(b"uann", b"4")])  # the rest of this checkpoint is still to come
    assert newest(kafka, topic) == whole
    commit(kafka, topic, [(POSITION_KEY, b"p4")])
    last = {b"uann": b"4", POSITION_KEY: b"p4"}
    until(lambda: newest(kafka, topic) == last, "the whole checkpoint shows")
    assert newest(kafka, topic, 0) == {}


def test_values_of_one_partition_from_an_offset_on(kafka: str, make_topic: MakeTopic) -> None:
    topic = make_topic("deltas", partitions=2)
    commit(kafka, topic, [(b"", b"%d" % n) for n in range(5)])
    commit(kafka, topic, [(b"", b"lost")], whole=False)
    assert list(values_from(settings(kafka), topic, 1, 2)) == [b"2", b"3", b"4"]
    assert list(values_from(settings(kafka), topic, 0, 0)) == []


def test_what_cannot_be_read_is_one_message(kafka: str) -> None:
    with pytest.raises(OperatorError, match="is the namespace right") as refused:
        ChangelogRows(settings(kafka), "feedrank.never-was.users-changelog")
    assert refused.value.exit_code == ExitCode.TOPICS_WRONG
    with pytest.raises(OperatorError, match="check KAFKA_BOOTSTRAP_SERVERS") as refused:
        ChangelogRows(settings(f"127.0.0.1:{free_port()}"), "any")
    assert refused.value.exit_code == ExitCode.BROKER_UNREACHABLE
