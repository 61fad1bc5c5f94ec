"""Encoders for loaders, the simulator and the API: the other direction of flow steps 1 and 5."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import fastavro
import numpy as np
import orjson
import pyarrow as pa
import pyruhvro

from streams.codec.activities import Format
from streams.codec.schemas import ID_FIELD, MAGIC_FIELD, BundledSchemas, Kind, arrow_schema, reader_text


def encode_activity(activity: Mapping[str, Any], value_format: Format = "avro", schema_id: int = 0) -> bytes:
    """The value of one activity record.

    `activity` has the fields of wire/schemas/activity.avsc; times are ms as int; what is None or missing is
    absent. `schema_id`: what `Registry.register` returned; 0 without a registry. Raises ValueError for a
    value of the wrong type or a required field that is missing. The rules of docs/wire.md are not checked.
    """
    return _encode("activity", activity, value_format, schema_id)


def encode_item(item: Mapping[str, Any], value_format: Format = "avro", schema_id: int = 0) -> bytes:
    """The value of one item record: as `encode_activity`, with the fields of wire/schemas/item.avsc."""
    return _encode("item", item, value_format, schema_id)


def encode_activities(columns: Mapping[str, Sequence[Any]], schema_id: int = 0) -> list[bytes]:
    """Avro values of n activities from columns (field name -> n values): much faster than one by one."""
    schema = arrow_schema(reader_text("activity"))
    records = len(next(iter(columns.values())))
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(records, field.type)
        for field in schema
    ]
    bits = np.frombuffer(struct.pack(">I", schema_id) * records, np.float32)
    framed = pa.RecordBatch.from_arrays(
        [pa.array(np.zeros(records, np.int64)), pa.array(bits), *arrays],
        names=[MAGIC_FIELD, ID_FIELD, *schema.names],
    )
    native = BundledSchemas().writer(0, "activity").native
    chunks = pyruhvro.serialize_record_batch(framed, native, 1)
    return [value for chunk in chunks for value in chunk.to_pylist()]


def _encode(kind: Kind, document: Mapping[str, Any], value_format: Format, schema_id: int) -> bytes:
    if value_format == "json":
        try:
            return orjson.dumps({name: value for name, value in document.items() if value is not None})
        except TypeError as error:  # orjson's own errors are of that kind
            raise ValueError(
                f"the {kind} cannot be written as JSON: {error}; compare docs/wire.md"
            ) from error
    out = io.BytesIO()
    out.write(b"\0" + schema_id.to_bytes(4, "big"))
    try:
        fastavro.schemaless_writer(out, _parsed(kind), document)
    except (TypeError, ValueError, OverflowError, AttributeError, KeyError, IndexError) as error:
        raise ValueError(f"the {kind} does not fit its schema: {error}; compare docs/wire.md") from error
    return out.getvalue()


@cache
def _parsed(kind: Kind) -> Any:
    return fastavro.parse_schema(json.loads(reader_text(kind)))
