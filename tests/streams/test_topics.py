"""Topics: what is wrong is found and both sides are named; creation and lag on a real broker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from streams.concerns import KafkaSettings
from streams.errors import ExitCode, OperatorError
from streams.settings import Settings
from streams.topics import (
    MESSAGE_BYTES_MAX,
    NO_BOUND_MS,
    TIMESTAMP_AHEAD,
    Desired,
    Finding,
    Found,
    desired,
    judge,
)
from streams.topics_admin import TopicsAdmin
from tests.services import Kafka
from tests.waiting import GUARD_S
from wire.names import ACTIVITIES, ITEMS, Namespace

NAMES = Namespace("blue")


def good(replication: int = 3) -> dict[str, Found]:
    safe = {"min.insync.replicas": "2"}
    return {d.name: Found(4, replication, d.config() | safe) for d in desired(NAMES)}


def findings(found: dict[str, Found], embedded: bool = False) -> list[Finding]:
    return list(judge(desired(NAMES), found, embedded).findings)


def configured(found: dict[str, Found], topic: str, **config: str) -> dict[str, Found]:
    changed = {name.replace("_", "."): value for name, value in config.items()}
    return found | {topic: replace(found[topic], config={**found[topic].config, **changed})}


def only(found: dict[str, Found]) -> Finding:
    (finding,) = findings(found)
    return finding


def test_topics_made_as_desired_have_nothing_wrong() -> None:
    assert findings(good()) == []


def test_a_missing_topic_is_an_error_that_names_the_command() -> None:
    found = good()
    del found[NAMES.served]
    finding = only(found)
    assert (finding.severity, finding.topic) == ("error", NAMES.served)
    assert "feedrank topics create" in finding.message


def test_a_partition_mismatch_names_both_sides() -> None:
    finding = only(good() | {NAMES.users_changelog: replace(good()[NAMES.users_changelog], partitions=8)})
    assert finding.topic == NAMES.users_changelog
    assert f"has 8 partitions, but {ACTIVITIES} has 4" in finding.message


def test_items_may_have_a_count_of_their_own() -> None:
    assert findings(good() | {ITEMS: replace(good()[ITEMS], partitions=1)}) == []


@pytest.mark.parametrize(
    ("topic", "policy", "reason"),
    [
        (ACTIVITIES, "compact", "records of one key would vanish"),
        (ACTIVITIES, "compact,delete", "records of one key would vanish"),
        (ITEMS, "delete", "would vanish and the log grow"),
        (NAMES.users_changelog, "compact,delete", "rows older than the retention would be lost"),
    ],
)
def test_a_wrong_cleanup_policy_is_an_error(topic: str, policy: str, reason: str) -> None:
    finding = only(configured(good(), topic, cleanup_policy=policy))
    assert finding.severity == "error"
    assert reason in finding.message


def test_a_changelog_that_refuses_large_batches_is_an_error() -> None:
    finding = only(configured(good(), NAMES.users_changelog, max_message_bytes="100000"))
    assert (finding.severity, "max.message.bytes is 100000" in finding.message) == ("error", True)


@pytest.mark.parametrize(
    ("topic", "config"),
    [
        (ITEMS, {"min_compaction_lag_ms": "0"}),
        (ACTIVITIES, {"retention_ms": "60000"}),
        (ACTIVITIES, {"unclean_leader_election_enable": "true"}),
        (ACTIVITIES, {"min_insync_replicas": "1"}),
    ],
)
def test_what_is_unwise_is_a_warning_only(topic: str, config: dict[str, str]) -> None:
    report = judge(desired(NAMES), configured(good(), topic, **config))
    assert [f.severity for f in report.findings] == ["warning"]
    report.demand()


@pytest.mark.parametrize("topic", [ACTIVITIES, ITEMS])
def test_a_topic_that_takes_records_from_the_future_is_told_how_to_refuse_them(topic: str) -> None:
    report = judge(desired(NAMES), configured(good(), topic, message_timestamp_after_max_ms=str(NO_BOUND_MS)))
    report.demand()
    (finding,) = report.findings
    assert (finding.severity, finding.topic, finding.at_start) == ("warning", topic, True)
    assert f"--entity-name {topic} --add-config message.timestamp.after.max.ms=300000" in finding.message


def test_a_broker_before_kafka_3_6_is_told_of_and_not_refused() -> None:
    config = {k: v for k, v in good()[ACTIVITIES].config.items() if k != TIMESTAMP_AHEAD}
    finding = only(good() | {ACTIVITIES: replace(good()[ACTIVITIES], config=config)})
    assert (finding.severity, finding.topic) == ("warning", ACTIVITIES)
    assert "the broker does not know message.timestamp.after.max.ms" in finding.message


def test_where_the_broker_sets_the_time_no_producer_can_move_it() -> None:
    found = configured(good(), ACTIVITIES, message_timestamp_after_max_ms=str(NO_BOUND_MS))
    assert findings(configured(found, ACTIVITIES, message_timestamp_type="LogAppendTime")) == []


def test_unlimited_retention_is_fine() -> None:
    assert findings(configured(good(), ACTIVITIES, retention_ms="-1")) == []


def test_thin_replication_is_one_warning_for_all_topics() -> None:
    finding = only(good(replication=1))
    assert (finding.severity, finding.topic) == ("warning", "8 topics")


def test_an_embedded_broker_is_judged_by_names_and_counts_alone() -> None:
    found = {name: Found(4, 1) for name in good()}
    assert findings(found, embedded=True) == []
    found[NAMES.item_deltas] = Found(2, 1)
    # the deltas differ from the activities, and their changelog from them
    assert [f.severity for f in findings(found, embedded=True)] == ["error", "error"]


def test_errors_end_with_their_exit_code() -> None:
    with pytest.raises(OperatorError) as caught:
        judge(desired(NAMES), {}).demand()
    assert caught.value.exit_code == ExitCode.TOPICS_WRONG
    assert len(caught.value.message.splitlines()) == 1
    assert all(one.name in caught.value.message for one in desired(NAMES))


def test_every_internal_topic_carries_the_namespace() -> None:
    public = {ACTIVITIES, ITEMS, "feedrank.dead-letters"}
    assert all(".blue." in d.name for d in desired(NAMES) if d.name not in public)


def kafka_at(bootstrap: str, **more: str) -> KafkaSettings:
    return Settings.load({"KAFKA_BOOTSTRAP_SERVERS": bootstrap, **more}).kafka


def test_no_broker_is_one_message_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.topics_admin.ANSWER_S", 3.0)
    with pytest.raises(OperatorError, match=r"Connection refused.*KAFKA_BOOTSTRAP_SERVERS") as caught:
        TopicsAdmin(kafka_at("127.0.0.1:1"), NAMES).check()
    assert caught.value.exit_code == ExitCode.BROKER_UNREACHABLE


@pytest.fixture
def mock_broker() -> Iterator[str]:
    mock = Producer({"bootstrap.servers": "unused:1", "test.mock.num.brokers": 1, "log_level": 0})
    yield ",".join(f"{b.host}:{b.port}" for b in mock.list_topics(timeout=GUARD_S).brokers.values())
    mock.flush(0)  # it lives until here


def test_topics_appear_on_an_embedded_broker(mock_broker: str) -> None:
    admin = TopicsAdmin(kafka_at(mock_broker, FEEDRANK_EMBEDDED="true"), NAMES)
    assert [f.severity for f in admin.check().errors] == ["error"] * len(desired(NAMES))
    assert admin.create() == [d.name for d in desired(NAMES)]
    assert admin.check().findings == ()
    assert (admin.partitions(), admin.create()) == (4, [])


def send(producer: Producer, time_ms: int) -> None:
    """One activity with this timestamp. Raises KafkaException where the broker refuses it."""
    refused: list[KafkaError] = []
    producer.produce(
        ACTIVITIES,
        b"x",
        timestamp=time_ms,
        on_delivery=lambda error, _: refused.extend([error] if error else []),
    )
    assert producer.flush(GUARD_S) == 0
    for error in refused:
        raise KafkaException(error)


@pytest.mark.kafka
def test_a_setting_that_the_broker_does_not_know_is_left_out(
    private_kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "message.timestamp.of.tomorrow.ms"
    monkeypatch.setattr("streams.topics.TIMESTAMP_AHEAD", name)
    monkeypatch.setattr("streams.topics_admin.TIMESTAMP_AHEAD", name)
    admin = TopicsAdmin(kafka_at(private_kafka.bootstrap), NAMES)
    assert len(admin.create(partitions=2)) == len(desired(NAMES))
    report = admin.check()
    report.demand()
    assert [f.topic for f in report.findings if f.at_start] == [ACTIVITIES, ITEMS]
    assert report.found[ITEMS].config["cleanup.policy"] == "compact"

    other = Namespace("other")
    monkeypatch.setattr(Desired, "config", lambda one: {"no.such.setting": "1"})
    with pytest.raises(OperatorError, match=r"refused to create feedrank\.other\."):
        TopicsAdmin(kafka_at(private_kafka.bootstrap), other).create()


@pytest.mark.kafka
def test_creation_check_and_lag_on_a_real_broker(private_kafka: Kafka) -> None:
    kafka = kafka_at(private_kafka.bootstrap)
    admin = TopicsAdmin(kafka, NAMES)
    with pytest.raises(OperatorError, match=f"{ACTIVITIES} is missing"):
        admin.partitions()
    assert len(admin.create(partitions=2)) == len(desired(NAMES))
    report = admin.check()
    assert report.errors == ()
    assert [f.topic for f in report.findings] == ["8 topics"], "replication 1 is all there is to say"
    assert {found.partitions for found in report.found.values()} == {2}
    assert report.found[NAMES.users_changelog].config["max.message.bytes"] == str(MESSAGE_BYTES_MAX)
    with pytest.raises(OperatorError, match="has 2 partitions, not 8"):
        admin.create(partitions=8)

    green = TopicsAdmin(kafka, Namespace("green"))
    assert all(".green." in name for name in green.create()), "a shadow gets topics of its own"

    producer = Producer(kafka.confluent())
    for _ in range(3):
        producer.produce(ACTIVITIES, b"x", partition=1)
    assert producer.flush(GUARD_S) == 0
    assert [(one.partition, one.records, one.committed) for one in admin.lag()] == [(0, 0, -1), (1, 3, -1)]

    with pytest.raises(KafkaException) as caught:
        send(producer, int(time.time() * 1_000) + 400_000)
    assert caught.value.args[0].code() == KafkaError.INVALID_TIMESTAMP
    send(producer, int(time.time() * 1_000) + 200_000)

    assert admin.retention_ms(ACTIVITIES) == 7 * 86_400_000
    admin.keep_all()
    assert admin.retention_ms(ACTIVITIES) is None
