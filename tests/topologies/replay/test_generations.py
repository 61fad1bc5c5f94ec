"""Old records stay readable: three generations of the activity schema in one topic, and in files, replay.

The reader of today is the bundled schema, and the second generation says that `actor` was once called `user`:

    1  `user`, `platform`; no `position`, no `slate_id`
    2  `actor` (renamed, with an alias), `platform`; `position` (added with a default)
    3  the bundled schema: `slate_id` (added with a default); `platform` is gone
"""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer

from feedrank import cli
from feedrank.load.events import ActivityEvent, Event, ItemEvent
from models.policy import parse_policy
from streams.codec import encode_item
from streams.codec.schemas import reader_text
from streams.concerns import KafkaSettings
from streams.registry import Registry
from tests.conftest import MakeTopic
from tests.integration.test_oracle import as_event, told
from tests.oracle.digest import digest
from tests.oracle.made_up import Size, Stream
from tests.shadows import BUNDLED, TICK_MS, digest_of, settings
from tests.streams.test_registry import Answers
from topologies.replay.feeds import settle_feeds
from topologies.replay.kafka_log import KafkaLog, find_range
from topologies.replay.pool import KeptItems
from topologies.replay.shadow import Definition, Shadow
from topologies.replay.spool import Record, Spool
from topologies.replay.steps import Steps
from wire.names import ACTIVITIES, ITEMS
from wire.partitioner import partition_of

Schema = dict[str, Any]
PARTITIONS = 2
TODAY: Schema = json.loads(reader_text("activity"))


def generation(number: int) -> Schema:
    without = {1: {"position", "slate_id"}, 2: {"slate_id"}, 3: set[str]()}[number]
    fields = [dict(field) for field in TODAY["fields"] if field["name"] not in without]
    if number == 1:
        next(field for field in fields if field["name"] == "actor")["name"] = "user"
    if number == 2:
        next(field for field in fields if field["name"] == "actor")["aliases"] = ["user"]
    if number < 3:
        fields.insert(2, {"name": "platform", "type": "string"})
    return {**TODAY, "fields": fields}


def document(event: ActivityEvent, number: int) -> Schema:
    fields = dict.fromkeys(field["name"] for field in generation(number)["fields"])
    fields |= {name: value for name, value in event.record().items() if name in fields}
    more = {1: {"user": event.actor, "platform": "ios"}, 2: {"platform": "web"}, 3: {}}
    return fields | more[number]


@pytest.fixture
def registry() -> Iterator[str]:
    """A registry that knows items as schema 0 and the three generations; all were registered in turn."""
    schemas = {0: json.loads(reader_text("item"))} | {n: generation(n) for n in (1, 2, 3)}
    subjects = {f"{ACTIVITIES}-value": [1, 2, 3], f"{ITEMS}-value": []}
    handler = type("Handler", (Answers,), {"schemas": schemas, "subjects": subjects, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def stream() -> Stream:
    return Stream(9, Size(activities=1_200, items=150, users=25, changing=False))


@pytest.fixture(scope="module")
def events(stream: Stream) -> list[tuple[Event, int]]:
    """Each with the generation that writes it; the first one has no place for positions."""
    found = []
    made = [as_event(event) for event in stream.events]  # type: ignore[arg-type]
    for at, event in enumerate(made):
        number = 1 + 3 * at // len(made)
        if isinstance(event, ActivityEvent) and number == 1:
            event = replace(event, position=None)
        found.append((event, number))
    return found


@pytest.fixture(scope="module")
def expected(stream: Stream, events: list[tuple[Event, int]]) -> str:
    world = told((event for event, _ in events), BUNDLED, PARTITIONS)
    return digest(world, world.settled(stream.end_ms, TICK_MS))


def value_of(event: ActivityEvent, number: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(generation(number)), document(event, number))
    return b"\0" + number.to_bytes(4, "big") + out.getvalue()


@pytest.mark.kafka
def test_a_topic_of_three_generations_has_the_digest_of_the_oracle(
    kafka: str,
    make_topic: MakeTopic,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    registry: str,
    stream: Stream,
    events: list[tuple[Event, int]],
    expected: str,
) -> None:
    topic = make_topic("activities", partitions=PARTITIONS)
    monkeypatch.setattr("topologies.replay.kafka_log.ACTIVITIES", topic)
    monkeypatch.setattr("topologies.replay.kafka_log.ITEMS", make_topic("items"))
    producer, items = Producer({"bootstrap.servers": kafka}), list[Record]()
    for event, number in events:
        if isinstance(event, ItemEvent):
            items.append(
                Record(ITEMS, event.key.encode(), encode_item(event.record(), "avro"), event.time_ms)
            )
        elif isinstance(event, ActivityEvent):
            key = event.key.encode()
            place = partition_of(key, PARTITIONS)
            producer.produce(topic, value_of(event, number), key, place, timestamp=event.time_ms)
    assert producer.flush(60) == 0
    given = settings(tmp_path)
    at = KafkaSettings(KAFKA_BOOTSTRAP_SERVERS=kafka)  # type: ignore[call-arg]
    found, as_of_ms = find_range(at, None, None), -(-stream.end_ms // TICK_MS) * TICK_MS
    shadow = Shadow(tmp_path / "june")
    one = Definition(
        "job", "june", "kafka", PARTITIONS, found.starts, found.ends, BUNDLED, TICK_MS, as_of_ms, sink="files"
    )
    shadow.define(one)
    Spool(shadow.spool).make(items, PARTITIONS)
    log = KeptItems(KafkaLog(at, {}, 300), Spool(shadow.spool))
    steps = Steps(shadow, one, given, parse_policy(BUNDLED), log, Registry(registry))

    async def replay() -> None:
        parts = range(PARTITIONS)
        done = [await steps.users(p, going) for p in parts]
        done += [await steps.item_rows(p, going) for p in parts]
        done += [await steps.features(p, as_of_ms, going) for p in parts]
        done += [await settle_feeds(steps, p, as_of_ms, going) for p in parts]
        assert all(done)

    asyncio.run(replay())
    assert digest_of(shadow).hash() == expected


def going(count: int) -> bool:
    """A step is never stopped."""
    return True


def test_avro_containers_of_three_generations_have_it_too(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    registry: str,
    stream: Stream,
    events: list[tuple[Event, int]],
    expected: str,
) -> None:
    monkeypatch.setenv("FEEDRANK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", registry)
    items = [event.record() for event, _ in events if isinstance(event, ItemEvent)]
    paths = [written(tmp_path / "items.avro", json.loads(reader_text("item")), items)]
    for n in (1, 2, 3):
        rows = [document(event, n) for event, of in events if isinstance(event, ActivityEvent) and of == n]
        paths.append(written(tmp_path / f"activities-{n}.avro", generation(n), rows))
    command = ["replay", *map(str, paths), "--into", "june", "--feeds", "files", "--to", str(stream.end_ms)]
    assert cli.run([*command, "--partitions", str(PARTITIONS)]) == 0
    capsys.readouterr()
    assert cli.run(["digest", "june"]) == 0
    assert f"digest {expected}" in capsys.readouterr().out


def written(path: Path, schema: Schema, rows: list[Any]) -> Path:
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema), rows)
    return path
