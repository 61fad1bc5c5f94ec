"""Bad records in JSON: each one dead letter, also those that no Avro of the bundled schema can be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from tests.integration.conftest import BEGAN_MS, drained, lags
from tests.integration.job import Job
from tests.integration.test_bad_records import letters
from tests.waiting import GUARD_S, until
from wire.names import ACTIVITIES, ITEMS

pytestmark = pytest.mark.kafka

ACT = {"activity_id": "a", "actor": "ann", "verb": "like", "object": "i1", "event_time": BEGAN_MS}
ITEM = {"item_id": "i1", "author": "bob", "created_at": BEGAN_MS, "topics": ["tea"]}
Record = tuple[str, bytes]
"""Reason and value."""


def without(document: dict[str, Any], *names: str) -> Iterator[Record]:
    """Each of the fields absent, and each of them null."""
    for name in names:
        yield "missing_field", orjson.dumps({k: v for k, v in document.items() if k != name})
        yield "missing_field", orjson.dumps(document | {name: None})


def bad_activities() -> list[Record]:
    good = orjson.dumps(ACT)
    return [
        *without(ACT, "activity_id", "actor", "verb", "object", "event_time"),
        ("not_utf8", good.replace(b'"like"', b'"li\xffe"')),
        ("truncated", good[:-1]),
        ("not_json", b"[]"),
        ("trailing_bytes", good + good),
        ("wrong_schema", orjson.dumps(ACT | {"event_time": "soon"})),
        ("wrong_schema", orjson.dumps(ACT | {"object": 7})),
    ]


def bad_items() -> list[Record]:
    good = orjson.dumps(ITEM)
    return [
        *without(ITEM, "author", "created_at"),
        ("not_utf8", good.replace(b'"bob"', b'"b\xffb"')),
        ("wrong_schema", orjson.dumps(ITEM | {"topics": 7})),
    ]


def test_each_bad_record_in_json_is_one_dead_letter(
    public_kafka: str, redis_url: str, tmp_path: Path, namespace: str
) -> None:
    settings = {"FEEDRANK_FORMAT": "json"}
    with Job(public_kafka, redis_url, tmp_path, namespace, settings) as job:
        job.create_topics(1)
        producer = Producer(job.kafka.confluent())
        sent = dict[tuple[str, int], Record]()
        for topic, key, good, bad in (
            (ACTIVITIES, b"ann", ACT, bad_activities()),
            (ITEMS, b"i1", ITEM, bad_items()),
        ):
            for number, record in enumerate(bad):
                fresh = {"activity_id": f"good-{number}"} if topic == ACTIVITIES else {}
                producer.produce(topic, orjson.dumps(good | fresh), key, timestamp=BEGAN_MS)
                producer.produce(topic, record[1], key, timestamp=BEGAN_MS)
                sent[topic, 2 * number + 1] = record
        assert producer.flush(GUARD_S) == 0
        worker = job.start_worker()
        until(lambda: drained(job), "all is committed", lambda: lags(job))
        until(lambda: len(letters(job)) >= len(sent), "as many dead letters as bad records")
        assert worker.stop() == 0
        assert {(one.topic, one.offset): (one.reason, one.value) for one in letters(job)} == sent
        assert len(letters(job)) == len(sent), "one is doubled"
        ledger = job.position(0)
        assert (ledger["applied"], ledger["dead"]) == (len(bad_activities()), len(bad_activities()))
