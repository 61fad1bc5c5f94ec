"""Writers' schemas: evolution over generations, the registry, and what waits or is set aside."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import fastavro
import pyarrow as pa
import pytest

from models.fingerprint import fp64
from streams.codec import BundledSchemas, Decoder, ItemDecoder, SchemaPending
from streams.codec.schemas import SchemaMismatch, SchemaUnknown, WriterSchema, plain, reader_text
from streams.dead_letters import Reason
from streams.errors import ExitCode, OperatorError
from streams.health import STARTING, Health
from streams.loop_watch import Progress
from streams.registry import BlockingSchemas, Registry, RegistryUnreachable
from tests.streams.codec_cases import NOW_MS, PARTITIONS, TOPIC, VERBS, activity, actor_in
from tests.waiting import GUARD_S
from topologies.registry_watch import RegistryWatch
from wire.names import ACTIVITIES, ITEMS

Schema = dict[str, Any]


def record(*fields: Any) -> Schema:
    return {"type": "record", "name": "Activity", "namespace": "feedrank", "fields": list(fields)}


def field(name: str, kind: Any, **more: Any) -> Schema:
    return {"name": name, "type": kind, **more}


TIME = {"type": "long", "logicalType": "timestamp-millis"}
REQUIRED = [field(n, "string") for n in ("activity_id", "actor", "verb", "object")]
FIRST = record(*REQUIRED, field("event_time", TIME))
"""The first generation: no optional field at all."""
BUNDLED: Schema = json.loads(reader_text("activity"))
THIRD = record(
    field("client", {"type": "map", "values": "string"}),
    *reversed(REQUIRED),
    field("event_time", TIME),
    field("dwell_ms", ["int", "null"]),
    field("position", "int"),
    field("app", ["null", "bytes"], default=None),
    field("tags", {"type": "array", "items": ["null", "string"]}),
    field("os", {"type": "enum", "name": "Os", "symbols": ["ios", "android"]}),
    field("place", ["null", record(field("lat", "double"), field("lon", "double")) | {"name": "Place"}]),
)
"""A later one: other order, more fields, some gone, some no longer optional."""


def write(schema: Schema, schema_id: int, document: Schema) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), document)
    return b"\0" + schema_id.to_bytes(4, "big") + out.getvalue()


LATE = activity(
    1,
    activity_id="a3",
    position=7,
    dwell_ms=9,
    client={"v": "1"},
    app=b"\xff\xfe",
    tags=["x", None],
    os="android",
    place={"lat": 1.0, "lon": 2.0},
)


class Answers(BaseHTTPRequestHandler):
    """As much of a registry as is asked of one."""

    schemas: dict[int, Schema]
    broken = False
    refusal = 0
    subjects: ClassVar[dict[str, list[int]]] = {}
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        parts = self.path.strip("/").split("/")
        if self.broken:
            self.answer(503, {"message": "not now"})
        elif parts[:2] == ["schemas", "ids"] and int(parts[2]) in self.schemas:
            self.answer(200, {"schema": json.dumps(self.schemas[int(parts[2])])})
        elif parts[0] == "subjects" and parts[1] in self.subjects:
            numbers = self.subjects[parts[1]]
            schema = {"schema": json.dumps(self.schemas[int(parts[3])])} if len(parts) == 4 else numbers
            self.answer(200, schema)
        elif parts == ["subjects", "t-value", "versions"]:
            self.answer(200, sorted(self.schemas))
        elif parts[:3] == ["subjects", "t-value", "versions"]:
            number = int(parts[3])
            self.answer(200, {"id": number, "schema": json.dumps(self.schemas[number])})
        else:
            self.answer(404, {"error_code": 40403})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refusal:
            self.answer(self.refusal, {"error_code": self.refusal, "message": "no default for 'verb'"})
        else:
            self.schemas[9] = json.loads(body["schema"])
            self.answer(200, {"id": 9})

    def answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class Served:
    def __init__(self, url: str, handler: type[Answers]) -> None:
        self.url, self.handler = url, handler
        self.registry = Registry(url, timeout_s=GUARD_S)


@pytest.fixture
def served() -> Iterator[Served]:
    handler = type("Handler", (Answers,), {"schemas": {1: FIRST, 2: BUNDLED, 3: THIRD}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield Served(f"http://127.0.0.1:{server.server_port}", handler)
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_field_that_was_renamed_is_read_by_the_alias_of_a_later_version(served: Served) -> None:
    def renamed(*aliases: object, now: str = "actor") -> Schema:
        other = {"name": now, "aliases": [*aliases]}
        return BUNDLED | {"fields": [f | (other if f["name"] == "actor" else {}) for f in BUNDLED["fields"]]}

    written = renamed(now="user")
    document = activity(1, activity_id="a1")
    old = write(written, 21, {"user": document.pop("actor"), **document})
    served.handler.schemas[21] = written
    registry = Registry(served.url, timeout_s=GUARD_S)
    registry.fetch_now([21])
    assert [letter.reason for letter in decode(registry, [old])[1]] == ["wrong_schema"]

    served.handler.subjects = {f"{ACTIVITIES}-value": [21, 22], f"{ITEMS}-value": []}
    served.handler.schemas[22] = renamed("user", "verb", "5", 5)  # a field of today, and no names
    registry.fetch_now([22])
    columns, dead = decode(registry, [old, write(BUNDLED, 22, activity(1, activity_id="a2"))])
    assert not dead
    assert columns.activity_fp.tolist() == [fp64(b"a1"), fp64(b"a2")]
    assert registry.check_subject(ACTIVITIES, "activity") == 2
    asked = len(served.handler.asked)
    registry.reader(ACTIVITIES, "activity")
    assert served.handler.asked[asked:] == [f"/subjects/{ACTIVITIES}-value/versions"]


def decode(registry: Any, values: list[bytes]) -> Any:
    keys = [actor_in(1).encode()] * len(values)
    decoder = Decoder("avro", VERBS, PARTITIONS, registry)
    return decoder.decode(TOPIC, 1, range(len(values)), [NOW_MS] * len(values), keys, values)


VALUES = [
    write(THIRD, 3, LATE),
    write(FIRST, 1, activity(1, activity_id="a1")),
    write(BUNDLED, 2, activity(1, activity_id="a2", slate_id="s")),
    write(THIRD, 3, {**LATE, "activity_id": "a4", "place": None, "tags": [], "client": {}, "app": None}),
]


def test_three_generations_in_one_fetch_decode_in_offset_order(served: Served) -> None:
    served.registry.fetch_now([1, 2, 3])
    columns, dead = decode(served.registry, VALUES)
    assert not dead
    assert columns.offset.tolist() == [0, 1, 2, 3]
    assert columns.activity_fp.tolist() == [fp64(x) for x in (b"a3", b"a1", b"a2", b"a4")]
    assert columns.position.tolist() == [7, -1, -1, 7]
    assert columns.dwell_ms.tolist() == [9, 0, 0, 9]
    assert columns.slate_fp.tolist() == [0, 0, fp64(b"s"), 0]


def test_bad_records_among_generations_are_found(served: Served) -> None:
    served.registry.fetch_now([1, 2, 3, 44])
    values = [
        VALUES[0] + b"x",
        VALUES[1],
        VALUES[2][:-1],
        b"\0\0\0\0\x2c" + VALUES[2][5:],
        b"\1" + VALUES[1][1:],
        VALUES[3],
    ]
    columns, dead = decode(served.registry, values)
    assert columns.offset.tolist() == [1, 5]
    reasons = [Reason.TRAILING_BYTES, Reason.TRUNCATED, Reason.UNKNOWN_SCHEMA, Reason.BAD_MAGIC]
    assert [letter.reason for letter in dead] == reasons
    assert served.url in dead[2].message


def test_an_unknown_id_waits_and_is_asked_for_once(served: Served) -> None:
    with pytest.raises(SchemaPending) as pending:
        decode(served.registry, VALUES)
    assert pending.value.schema_ids == {1, 2, 3}
    asyncio.run(served.registry.fetch(pending.value.schema_ids))
    assert len(decode(served.registry, VALUES)[0]) == 4
    assert len(decode(served.registry, VALUES)[0]) == 4
    asked = [path for path in served.handler.asked if path.startswith("/schemas")]
    assert asked == ["/schemas/ids/1", "/schemas/ids/2", "/schemas/ids/3"]


def test_a_registry_that_fails_makes_no_dead_letters(served: Served) -> None:
    served.handler.broken = True
    with pytest.raises(RegistryUnreachable, match=r"503.*SCHEMA_REGISTRY_URL"):
        served.registry.fetch_now([1])
    with pytest.raises(SchemaPending):
        decode(served.registry, VALUES[:2])
    nobody = Registry("http://127.0.0.1:1", timeout_s=0.5)
    with pytest.raises(RegistryUnreachable, match="check SCHEMA_REGISTRY_URL"):
        BlockingSchemas(nobody).writer(1, "activity")


def test_fetch_goes_on_until_the_registry_answers_and_an_outage_is_told_once(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streams.registry.BACKOFF_S_MIN", 0.01)
    caplog.set_level("INFO")
    served.handler.broken = True
    health, progress = Health(), Progress()
    health.ready(STARTING)
    served.registry.told = RegistryWatch(health, progress)

    async def recover() -> None:
        waiting = asyncio.create_task(served.registry.fetch([1]))
        while len(served.handler.asked) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # the server answers in a thread
        assert not waiting.done()
        assert "503: not now" in health.reasons["schema registry"]
        assert progress.waits
        served.handler.broken = False
        await asyncio.wait_for(waiting, GUARD_S)

    asyncio.run(recover())
    assert served.registry.writer(1, "activity").node == plain(FIRST)
    assert health.is_ready
    assert not progress.waits
    said = [record.getMessage().partition(";")[0] for record in caplog.records]
    assert said == ["the schema registry does not answer", "the schema registry answers again"]


def test_blocking_schemas_ask_on_the_spot(served: Served) -> None:
    schemas = BlockingSchemas(served.registry)
    assert schemas.writer(3, "activity").node == plain(THIRD)
    with pytest.raises(SchemaUnknown):
        schemas.writer(77, "activity")


def test_a_schema_that_does_not_resolve_makes_dead_letters(served: Served) -> None:
    wrong = record(*REQUIRED, field("event_time", "string"))
    served.handler.schemas[5] = wrong
    served.registry.fetch_now([1, 5])
    columns, dead = decode(served.registry, [write(wrong, 5, activity(1, event_time="x")), VALUES[1]])
    assert columns.offset.tolist() == [1]
    assert dead[0].reason == Reason.WRONG_SCHEMA
    assert "schema 5" in dead[0].message


def test_subjects_are_checked_version_by_version(served: Served) -> None:
    assert served.registry.check_subject("t", "activity") == 3
    assert served.registry.check_subject("none", "activity") == 0
    served.handler.schemas[4] = record(*REQUIRED)
    with pytest.raises(OperatorError, match="version 4"):
        served.registry.check_subject("t", "activity")


def test_registering_gives_the_id(served: Served) -> None:
    assert served.registry.register("t", "activity") == 9
    assert served.handler.schemas[9] == BUNDLED


@pytest.mark.parametrize("code", [409, 422])
def test_a_registry_that_refuses_the_bundled_schema_is_named_with_its_words(
    served: Served, code: int
) -> None:
    served.handler.refusal = code
    with pytest.raises(OperatorError, match=r"t-value/versions: no default for 'verb'; delete") as refused:
        served.registry.register("t", "activity")
    assert refused.value.exit_code == ExitCode.TOPICS_WRONG
    served.handler.refusal = 401
    with pytest.raises(RegistryUnreachable, match="it answers 401: no default"):
        served.registry.register("t", "activity")


def test_without_a_registry_there_is_only_schema_0() -> None:
    assert BundledSchemas().writer(0, "item") is BundledSchemas().writer(0, "item")
    with pytest.raises(SchemaUnknown, match="SCHEMA_REGISTRY_URL"):
        BundledSchemas().writer(1, "item")


def test_a_field_is_added_with_default_renamed_by_alias_removed_and_promoted() -> None:
    old = record(field("user", "string"), field("n", "int"), field("gone", "string"), field("raw", "bytes"))
    new = record(
        field("actor", "string", aliases=["user"]),
        field("n", "long"),
        field("added", ["null", "string"], default=None),
        field("raw", "string"),
    )
    schema = WriterSchema(json.dumps(old), json.dumps(new))
    written = pa.RecordBatch.from_pylist([{"user": "u", "n": 5, "gone": "g", "raw": "é"}])
    assert schema.resolve(written).to_pylist() == [{"actor": "u", "n": 5, "added": None, "raw": "é"}]


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (record(*REQUIRED), "event_time"),
        (record(*REQUIRED[1:], field("activity_id", "long"), field("event_time", TIME)), "writer type: long"),
        (record(*REQUIRED, field("event_time", {**TIME, "logicalType": "timestamp-micros"})), "micros"),
        (
            record(
                *REQUIRED, field("event_time", TIME), field("x", {"type": "fixed", "name": "X", "size": 3})
            ),
            "fixed",
        ),
        ({"type": "string"}, "record"),
        (record(field("activity_id", "nonsense")), "not an Avro schema"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_place(schema: Schema, why: str) -> None:
    with pytest.raises(SchemaMismatch, match=why):
        WriterSchema(json.dumps(schema), reader_text("activity"))


ROW = {
    "type": "record",
    "name": "Value",
    "fields": [
        field("item_id", "string"),
        field("author", ["null", "string"], default=None),
        field("created_at", {"type": "long", "connect.name": "io.debezium.time.Timestamp"}),
        field("topics", ["null", {"type": "array", "items": ["null", "string"]}], default=None),
        field("embedding", ["null", {"type": "array", "items": ["null", "float"]}], default=None),
    ],
}
ENVELOPE = {
    "type": "record",
    "name": "Envelope",
    "namespace": "shop.public.items",
    "fields": [
        field("before", ["null", ROW], default=None),
        field("after", ["null", "Value"], default=None),
        field("op", "string"),
        field("ts_ms", ["null", "long"], default=None),
    ],
}


def test_debezium_envelopes_in_avro_are_items(served: Served) -> None:
    row = {"item_id": "i1", "author": "ann", "created_at": NOW_MS, "topics": ["t"], "embedding": [3.0, 4.0]}
    served.handler.schemas[6] = ENVELOPE
    changes = [
        {"op": "c", "after": row},
        {"op": "u", "after": {**row, "item_id": "i2", "topics": None, "embedding": None}},
        {"op": "d", "before": row | {"item_id": "i3"}},
        {"op": "u", "after": {**row, "author": None}},
        {"op": "u", "after": {**row, "embedding": [1.0, None]}},
        {"op": "t"},
    ]
    values = [write(ENVELOPE, 6, change) for change in changes]
    keys: list[bytes | None] = [b'{"item_id":"i1"}', b"i2", b"i3", b"i1", b"i1", b"i1"]
    decoder = ItemDecoder("avro", BlockingSchemas(served.registry))
    found, dead = decoder.decode("feedrank.items", 0, range(6), [NOW_MS] * 6, keys, values)
    assert [record.item_id for record in found.upserts] == ["i1", "i2"]
    assert found.upserts[0].embedding is not None
    assert found.upserts[0].embedding[:2].tolist() == [76, 102]
    assert found.removed.tolist() == [fp64(b"i3")]
    reasons = [Reason.MISSING_FIELD, Reason.BAD_EMBEDDING, Reason.MISSING_FIELD]
    assert [letter.reason for letter in dead] == reasons


def test_what_speaks_no_http_is_a_registry_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1_000)
                client.sendall(b"-ERR unknown command\r\n")

        other = threading.Thread(target=answer, daemon=True)
        other.start()
        with pytest.raises(RegistryUnreachable, match=r"-ERR unknown command.*check SCHEMA_REGISTRY_URL"):
            Registry(f"http://127.0.0.1:{server.getsockname()[1]}").fetch_now([1])
        other.join(GUARD_S)
