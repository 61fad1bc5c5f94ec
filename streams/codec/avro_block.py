"""Whole record batches of Avro values to columns in one call of the native reader (step 1).

A record in Kafka's batches is itself as if written by Avro: numbers are zigzag varints, keys and values have
their length in front. So a block of records is one Avro array, of records with the framing around the value's
fields. What the framing says of lengths is compared with what was read, record by record: no value can
pretend to be more than one record. Wherever anything differs, the block is read in the ordinary way instead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyruhvro

from streams.block import Block
from streams.codec.avro_length import Unsure, encoded_lengths, varint_bytes
from streams.codec.schemas import HEADER_BYTES, ID_FIELD, MAGIC_FIELD, WriterSchema, is_native_failure
from streams.codec.text import I64, list_offsets, numbers

_BEFORE = ("__length", "__attributes", "__time", "__offset", "__key", "__value")
LENGTH, ATTRIBUTES, TIME, OFFSET, KEY, VALUE_BYTES = _BEFORE
HEADERS = "__headers"


@dataclass(frozen=True, slots=True)
class Whole:
    """All n records of a block: fields by the reader's schema, keys, times (int64[n]), the longest value."""

    table: pa.RecordBatch
    keys: pa.Array
    record_ms: I64
    value_bytes_max: int


class BlockReader:
    """Reads blocks whose values are all of one writer's schema."""

    def __init__(self, writer: WriterSchema) -> None:
        self._writer = writer
        native = json.loads(writer.native)
        kinds = {name: "string" if name == KEY else "long" for name in (*_BEFORE, HEADERS)}
        frame = {name: {"name": name, "type": kind} for name, kind in kinds.items()}
        fields = [*(frame[name] for name in _BEFORE), *native["fields"], frame[HEADERS]]
        record = {**native, "fields": fields}
        array = {"name": "records", "type": {"type": "array", "items": record}}
        self._schema = json.dumps({"type": "record", "name": "__block", "fields": [array]})

    def read(self, block: Block, body: bytes, schema_id: bytes) -> Whole | None:
        """`body`: the block's records; `schema_id`: the first one's. None unless all is as it must be."""
        try:
            rows = self._rows(b"".join([_varint(block.count), body, b"\0"]))
            if len(rows) != block.count:
                return None
            return self._checked(block, rows, schema_id)
        except (pa.ArrowException, Unsure):
            return None

    def _rows(self, array: bytes) -> pa.RecordBatch:
        try:
            found = pyruhvro.deserialize_array([array], self._schema)
        except BaseException as error:
            if is_native_failure(error):
                raise pa.ArrowInvalid(str(error)) from error
            raise
        return pa.RecordBatch.from_struct_array(found.column(0).values)

    def _checked(self, block: Block, rows: pa.RecordBatch, schema_id: bytes) -> Whole | None:
        framing = {name: numbers(rows.column(name))[0] for name in (*_BEFORE, HEADERS) if name != KEY}
        written = rows.select(list(range(len(_BEFORE), rows.num_columns - 1)))
        value_bytes = encoded_lengths(self._writer.measured, written)
        offsets = block.offsets - block.spread([one.base for one in block.segments])
        keys = rows.column(KEY)
        key_bytes = np.diff(list_offsets(keys))
        length: Any = 2 + varint_bytes(framing[TIME]) + varint_bytes(offsets) + varint_bytes(key_bytes)
        length = length + key_bytes + varint_bytes(value_bytes) + value_bytes
        ids = np.frombuffer(written.column(ID_FIELD).buffers()[1], "V4", len(rows))
        right = (
            np.array_equal(framing[VALUE_BYTES], value_bytes)
            and np.array_equal(framing[LENGTH], length)
            and np.array_equal(framing[OFFSET], offsets)
            and not framing[ATTRIBUTES].any()
            and not framing[HEADERS].any()
            and not numbers(written.column(MAGIC_FIELD))[0].any()
            and bool((ids == np.void(schema_id)).all())
        )
        if not right:
            return None
        table = self._writer.resolve(written)
        table.validate(full=True)
        keys.validate(full=True)
        return Whole(table, keys, _times(block, framing[TIME]), int(value_bytes.max()))


def first_head(body: bytes) -> bytes:
    """The wire format's header of the first record's value. Raises IndexError when the bytes end before."""
    at = _skip(body, 0) + 1
    for _ in range(2):
        at = _skip(body, at)
    size, shift = 0, 0
    while True:
        size |= (body[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if body[at - 1] < 0x80:
            break
    at = _skip(body, at + max((size >> 1) ^ -(size & 1), 0))
    if at + HEADER_BYTES > len(body):
        raise IndexError(at)
    return body[at : at + HEADER_BYTES]


def _skip(body: bytes, at: int) -> int:
    """Behind the varint that begins at `at`."""
    while body[at] >= 0x80:
        at += 1
    return at + 1


def _varint(number: int) -> bytes:
    left, out = number << 1, bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def _times(block: Block, delta_ms: I64) -> I64:
    times: I64 = block.spread([one.first_ms for one in block.segments]) + delta_ms
    if all(one.append_ms is None for one in block.segments):
        return times
    set_ms = block.spread([-1 if one.append_ms is None else one.append_ms for one in block.segments])
    found: Any = np.where(set_ms < 0, times, set_ms)
    return np.asarray(found, np.int64)
