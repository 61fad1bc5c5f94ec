"""Looking into a dead letter's value, and correcting a field of it (beside flow step 1)."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from typing import Any

import fastavro
import orjson

from streams.codec.schemas import (
    HEADER_BYTES,
    Kind,
    Node,
    SchemaMismatch,
    SchemaPending,
    Schemas,
    SchemaUnknown,
    WriterSchema,
    plain,
    reader_text,
)
from wire.names import ITEMS

Document = dict[str, Any]
_WHOLE = re.compile(r"-?[0-9]{1,19}")


class Unreadable(Exception):  # noqa: N818
    """The value cannot be decoded, so it cannot be edited."""


def kind_of(topic: str) -> Kind:
    """What the records of a topic are."""
    return "item" if topic == ITEMS else "activity"


def decode_value(value: bytes | None, kind: Kind, schemas: Schemas) -> Document:
    """The fields as they were written. Raises Unreadable."""
    if value is None:
        raise Unreadable("the record has no value")
    if value[:1] != b"\0":
        try:
            document = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise Unreadable(f"neither Avro nor JSON: {error}") from error
        if not isinstance(document, dict):
            raise Unreadable("the JSON is not an object")
        return document
    stream = io.BytesIO(value[HEADER_BYTES:])
    try:
        found = fastavro.schemaless_reader(stream, _parsed(_writer(value, kind, schemas)), None)
    except (EOFError, ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise Unreadable(f"the Avro record cannot be decoded: {error}") from error
    if stream.read(1):
        raise Unreadable("bytes follow the Avro record")
    assert isinstance(found, dict)
    return found


def edit_value(value: bytes | None, kind: Kind, schemas: Schemas, changes: Mapping[str, Any]) -> bytes:
    """The value with fields changed, in the encoding and schema it was written with.

    Raises Unreadable, also where there is no such field: its change would be lost without a word.
    """
    found = decode_value(value, kind, schemas)
    assert value is not None
    is_avro = value[:1] == b"\0"
    strangers = sorted(set(changes) - set(found if is_avro else _types(kind)))
    if strangers:
        raise Unreadable(f"this {kind} has no field {', '.join(strangers)}; leave out that --set for it")
    document = {**found, **changes}
    if not is_avro:
        try:
            return orjson.dumps({name: field for name, field in document.items() if field is not None})
        except TypeError as error:  # orjson's own errors are of that kind
            raise Unreadable(f"the changed record cannot be written as JSON: {error}") from error
    out = io.BytesIO()
    out.write(value[:HEADER_BYTES])
    try:
        fastavro.schemaless_writer(out, _parsed(_writer(value, kind, schemas)), document)
    except (ValueError, TypeError, OverflowError, AttributeError, KeyError, IndexError) as error:
        raise Unreadable(f"the changed record does not fit its schema: {error}") from error
    return out.getvalue()


def parse_change(text: str, kind: Kind, now_ms: int) -> tuple[str, Any]:
    """`field=value` as the field's type wants it; `null` takes it away, `now` is a time.

    Raises ValueError with what to do.

    >>> parse_change("dwell_ms=5", "activity", 0)
    ('dwell_ms', 5)
    """
    name, equals, value = text.partition("=")
    types = _types(kind)
    if not equals or name not in types:
        raise ValueError(f"{text!r} is not FIELD=VALUE with one of {', '.join(types)}")
    branches = types[name] if isinstance(types[name], list) else [types[name]]
    if value == "null" and "null" in branches:
        return name, None
    if "long" in branches:
        if value == "now" and name.endswith(("_time", "_at")):
            return name, now_ms
        if not _WHOLE.fullmatch(value) or not -(1 << 63) <= int(value) < 1 << 63:
            raise ValueError(f"{text!r}: {name} is a whole number of at most 64 bits (times: ms, or now)")
        return name, int(value)
    if "string" in branches:
        return name, value
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{text!r}: write the value as JSON: {error}") from error


def _types(kind: Kind) -> dict[str, Any]:
    return {f["name"]: f["type"] for f in plain(json.loads(reader_text(kind)))["fields"]}


def _writer(value: bytes, kind: Kind, schemas: Schemas) -> WriterSchema:
    try:
        return schemas.writer(int.from_bytes(value[1:HEADER_BYTES], "big"), kind)
    except (SchemaUnknown, SchemaMismatch, SchemaPending) as error:
        raise Unreadable(str(error)) from error


def _parsed(writer: WriterSchema) -> Node:
    return fastavro.parse_schema(writer.node)
