"""What ends a worker is laid to its topics where they are why, and to nothing that merely takes its time."""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from confluent_kafka.admin import AdminClient

import streams.blame
from streams.blame import blamed, topics_wrong
from streams.errors import ExitCode, OperatorError
from streams.settings import Settings
from streams.topics import Found, Report, desired, judge
from streams.topics_admin import TopicsAdmin
from tests.services import Kafka
from tests.streams.fakes import kafka_at
from tests.waiting import GUARD_S, until
from wire.names import Namespace

NAMES = Namespace("blame")
ASK = partial(topics_wrong, kafka_at("nowhere:1"), NAMES)
FENCED = OperatorError("again and again", ExitCode.FENCED)
TIMED_OUT = OperatorError("did not tell where logs begin", ExitCode.BROKER_UNREACHABLE)
AWAY = OperatorError("does not answer", ExitCode.BROKER_UNREACHABLE)
THERE = {one.name: Found(4, 3, one.config()) for one in desired(NAMES)}


def report(missing: str | None = None) -> Report:
    return judge(desired(NAMES), {name: found for name, found in THERE.items() if name != missing})


def answering(monkeypatch: pytest.MonkeyPatch, *answers: Report | OperatorError) -> list[bool]:
    """An admin that gives these answers; returns how it is asked."""
    left, asked = list(answers), list[bool]()

    class Admin:
        def __init__(self, *_: object) -> None:
            pass

        def check(self, led: bool) -> Report:
            asked.append(led)
            answer = left.pop(0)
            if isinstance(answer, OperatorError):
                raise answer
            return answer

    monkeypatch.setattr(streams.blame, "TopicsAdmin", Admin)
    monkeypatch.setattr(streams.blame, "AGAIN_S", 0.0)
    return asked


@pytest.mark.parametrize("error", [FENCED, TIMED_OUT, KafkaConnectionError("no")])
def test_a_topic_that_is_gone_is_the_reason(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    asked = answering(monkeypatch, report(NAMES.served), report(NAMES.served))
    found = asyncio.run(blamed(error, ASK))
    assert isinstance(found, OperatorError)
    assert (found.exit_code, asked) == (ExitCode.TOPICS_WRONG, [False, False])
    assert NAMES.served in found.message


@pytest.mark.parametrize(
    "answers",
    [(report(),), (AWAY,), (report(NAMES.served), report()), (report(NAMES.served), AWAY)],
    ids=["all well", "no answer", "a broker that knew too little", "no second answer"],
)
def test_else_the_error_stays_what_it_is(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[Report | OperatorError, ...]
) -> None:
    answering(monkeypatch, *answers)
    assert asyncio.run(blamed(FENCED, ASK)) is FENCED


@pytest.mark.parametrize("error", [None, ValueError(), OperatorError("disk", ExitCode.DATA_DIRECTORY)])
def test_what_has_nothing_to_do_with_kafka_is_not_asked_about(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    asked = answering(monkeypatch)
    assert asyncio.run(blamed(error, ASK)) is error
    assert asked == []


def test_an_app_that_does_not_say_which_topics_it_needs_ends_with_its_error() -> None:
    assert asyncio.run(blamed(FENCED, None)) is FENCED


def test_a_topic_whose_leader_is_away_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.load({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "FEEDRANK_EMBEDDED": "true"})
    partition = SimpleNamespace(replicas=[1], leader=-1)
    topic: Any = SimpleNamespace(partitions={0: partition}, error="leader not available")
    metadata = SimpleNamespace(topics={one.name: topic for one in desired(NAMES)})
    admin = TopicsAdmin(settings.kafka, NAMES)
    monkeypatch.setattr(admin, "_ask", lambda question: metadata)
    assert admin.check(led=False).errors == ()
    assert len(admin.check().errors) == len(desired(NAMES))


@pytest.mark.kafka
def test_a_real_broker_is_asked(private_kafka: Kafka) -> None:
    kafka = kafka_at(private_kafka.bootstrap)
    TopicsAdmin(kafka, NAMES).create(partitions=2)
    assert asyncio.run(topics_wrong(kafka, NAMES)) is None
    admin = AdminClient(kafka.confluent())
    admin.delete_topics([NAMES.served])[NAMES.served].result(GUARD_S)
    until(lambda: NAMES.served not in admin.list_topics(timeout=GUARD_S).topics, "the topic is gone")
    found = asyncio.run(topics_wrong(kafka, NAMES))
    assert found is not None
    assert found.exit_code == ExitCode.TOPICS_WRONG
    assert found.message == f"the topic is missing: {NAMES.served}; `feedrank topics create` makes them"
    private_kafka.kill()
    assert asyncio.run(blamed(TIMED_OUT, partial(topics_wrong, kafka, NAMES))) is TIMED_OUT
