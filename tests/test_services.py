"""The started services are real: they fence, keep what was committed, and come back after kill -9."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer

from tests import services
from tests.conftest import MakeTopic
from tests.services import Kafka, Redis, ServiceMissing, create_topic
from tests.waiting import GUARD_S


def _transactional(bootstrap: str, name: str) -> Producer:
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": name, "linger.ms": 0})
    producer.init_transactions(GUARD_S)
    return producer


def test_a_second_producer_with_the_same_transactional_id_fences_the_first(
    kafka: str, make_topic: MakeTopic
) -> None:
    topic = make_topic("fence")
    first = _transactional(kafka, topic)
    _transactional(kafka, topic)
    first.begin_transaction()
    first.produce(topic, b"late")
    with pytest.raises(KafkaException, match=r"(?i)fenced"):
        first.commit_transaction(GUARD_S)


def test_what_was_committed_survives_a_killed_broker(private_kafka: Kafka) -> None:
    topic = create_topic(private_kafka.bootstrap, "kept")
    producer = _transactional(private_kafka.bootstrap, "keeper")
    producer.begin_transaction()
    producer.produce(topic, b"value", key=b"key")
    producer.commit_transaction(GUARD_S)
    before = private_kafka.pid
    private_kafka.kill()
    private_kafka.restart()
    assert private_kafka.pid != before
    config = {"bootstrap.servers": private_kafka.bootstrap, "group.id": "g", "auto.offset.reset": "earliest"}
    consumer = Consumer(config)
    try:
        consumer.subscribe([topic])
        found = consumer.consume(1, GUARD_S)
        assert [(m.key(), m.value()) for m in found] == [(b"key", b"value")]
    finally:
        consumer.close()


def test_a_topic_that_nobody_made_does_not_appear(kafka: str) -> None:
    from confluent_kafka.admin import AdminClient

    assert "never-made" not in AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=GUARD_S).topics


def test_redis_answers_and_restarts_on_its_port(private_redis: Redis) -> None:
    from redis import Redis as Client

    with Client.from_url(private_redis.url) as client:
        assert client.ping()
    url = private_redis.url
    private_redis.kill()
    assert not private_redis.ready()
    private_redis.restart()
    assert private_redis.url == url
    assert private_redis.ready()


def test_without_java_the_reason_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceMissing, match=r"install .* or set KAFKA_BOOTSTRAP_SERVERS"):
        services.kafka_classpath()


@pytest.mark.skipif(sys.platform != "linux", reason="needs how Linux keeps ports; run it there")
def test_a_port_that_is_free_stays_ours() -> None:
    """Nobody else gets it, who comes before our server is refused, and that one may come again."""
    port = services.free_port()
    with socket.socket() as greedy, pytest.raises(OSError, match="in use"):
        greedy.bind(("127.0.0.1", port))
    with socket.socket() as early, pytest.raises(ConnectionRefusedError):
        early.connect(("127.0.0.1", port))
    for _ in range(2):
        with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            pass


def test_a_server_that_dies_at_start_is_reported_with_its_log(tmp_path: Path) -> None:
    dying = [sys.executable, "-c", "print('disk is full'); raise SystemExit(3)"]
    broken = services.Server(dying, services.free_port(), tmp_path / "log")
    with pytest.raises(ServiceMissing, match="disk is full"):
        broken.start()
