"""Bad activities and bad items: each one dead letter, whatever is killed; neighbours are untouched.

These are in Avro, whose bundled schema has no record without a required field. (In JSON: test_bad_json.py.)
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from confluent_kafka import Producer

from feedrank.cli import run
from streams.codec.encode import encode_activity, encode_item
from streams.dead_letter_log import StoredLetter, read
from tests.integration.conftest import BEGAN_MS, PARTITIONS, PERSON, drained, lags, same_rows
from tests.integration.job import Job
from tests.waiting import GUARD_S, until
from wire.names import ACTIVITIES, ITEMS
from wire.partitioner import partition_of

pytestmark = pytest.mark.kafka

ACTOR = f"{PERSON}-0"
Record = tuple[str, bytes | None]
"""Reason and value."""


def act(**changes: Any) -> bytes:
    """A good activity of the actor, with changes."""
    good = {"activity_id": "bad-1", "actor": ACTOR, "verb": "like", "object": "i1", "event_time": BEGAN_MS}
    return encode_activity(good | changes, "avro", 0)


def item(**changes: Any) -> bytes:
    """A good item, with changes."""
    good = {"item_id": "bad-item", "author": "a", "created_at": BEGAN_MS, "topics": []}
    return encode_item(good | changes, "avro", 0)


def bad_activities() -> list[Record]:
    return [
        ("truncated", act()[:-3]),
        ("trailing_bytes", act() + b"\0"),
        ("bad_magic", b"\xff\xfe not avro"),
        ("unknown_schema", act().replace(bytes(5), b"\0\0\0\0\7", 1)),
        ("wrong_schema", act().replace(b"\x04i1\0", b"\x04i1\x0a", 1)),  # target: no such union branch
        ("not_utf8", act().replace(b"bad-1", b"bad\xff1")),
        ("unknown_verb", act(verb="teleport")),
        ("clock_ahead", act(event_time=BEGAN_MS + 3_600_000)),
        ("absurd_time", act(event_time=5)),
        ("key_mismatch", act(actor="somebody-else")),
        ("oversized", act(object="x" * 20_000)),
        ("null_value", None),
    ]


def bad_items() -> list[Record]:
    return [
        ("truncated", item()[:-2]),
        ("trailing_bytes", item() + b"\0"),
        ("bad_magic", b"no avro at all"),
        ("unknown_schema", item().replace(bytes(5), b"\0\0\0\0\7", 1)),
        ("wrong_schema", item()[:-1] + b"\x0a"),  # the last field: no such union branch
        ("not_utf8", item().replace(b"\x02a", b"\x02\xff")),
        ("clock_ahead", item(created_at=BEGAN_MS + 3_600_000)),
        ("absurd_time", item(created_at=5)),
        ("key_mismatch", item(item_id="another-item")),
        ("oversized", item(title="x" * 70_000)),
    ]


def send(job: Job) -> dict[tuple[str, int, int], Record]:
    """Good records and bad ones between them; the bad ones by topic, partition and offset."""
    producer = Producer(job.kafka.confluent())
    where: dict[tuple[str, int, int], Record] = {}

    def put(topic: str, key: bytes, partition: int, value: bytes | None, reason: str | None) -> None:
        def sent(error: object, message: Any) -> None:
            assert error is None
            if reason is not None:
                where[topic, message.partition(), message.offset()] = (reason, value)

        producer.produce(topic, value, key, partition, on_delivery=sent, timestamp=BEGAN_MS)

    home = partition_of(ACTOR.encode(), PARTITIONS)
    for n, (reason, value) in enumerate(bad_activities()):
        put(ACTIVITIES, ACTOR.encode(), home, value, reason)
        put(ACTIVITIES, ACTOR.encode(), home, act(activity_id=f"good-{n}"), None)
    put(ACTIVITIES, ACTOR.encode(), (home + 1) % PARTITIONS, act(), "misrouted")
    for reason, value in bad_items():
        put(ITEMS, b"bad-item", 0, value, reason)
    assert producer.flush(GUARD_S) == 0
    return where


def letters(job: Job) -> list[StoredLetter]:
    """The dead letters of this job."""
    return [letter for letter in read(job.kafka) if letter.group == job.names.group]


def command(here: pytest.MonkeyPatch, job: Job, *arguments: str) -> int:
    for name, value in job.environment().items():
        here.setenv(name, value)
    return run(["dlq", *arguments])


def test_each_bad_record_is_one_dead_letter_through_kills_and_can_be_sent_back(
    calm: Job, job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = job.start_worker()
    sent = send(job)
    until(lambda: len(letters(job)) >= len(sent), "as many dead letters as bad records", lambda: lags(job))
    worker.kill()
    worker = job.start_worker(FEEDRANK_DATA_DIR=str(job.directory / "data-0"))
    until(lambda: drained(job), "all committed", lambda: lags(job))
    worker.stop()

    found = {(one.topic, one.partition, one.offset): (one.reason, one.value) for one in letters(job)}
    assert found == sent
    assert len(letters(job)) == len(sent), "one is doubled"
    same_rows(job, calm)

    unknown = next(one for one in letters(job) if one.reason == "unknown_verb")
    assert command(monkeypatch, job, "list", "--json") == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["reason"] for one in listed} == {reason for reason, _ in sent.values()}
    assert command(monkeypatch, job, "show", unknown.name, "--json") == 0
    assert json.loads(capsys.readouterr().out)["decoded"]["verb"] == "teleport"

    dead = job.position(unknown.partition)
    assert command(monkeypatch, job, "requeue", unknown.name, "--set", "verb=like") == 0
    assert f"went to {ACTIVITIES} {unknown.partition}" in capsys.readouterr().out
    job.start_worker()
    until(lambda: drained(job), "the corrected activity is committed")
    corrected = job.position(unknown.partition)
    assert corrected["applied"] + corrected["duplicates"] == dead["applied"] + dead["duplicates"] + 1
    assert corrected["dead"] == dead["dead"]
    assert command(monkeypatch, job, "requeue", unknown.name) == 0
    assert "no such letter that was not requeued already" in capsys.readouterr().out
