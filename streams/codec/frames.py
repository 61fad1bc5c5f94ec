"""What Kafka writes around the values of a record batch, read as if it were Avro (step 1).

Numbers in Kafka's batches are zigzag varints, and keys and values have their length in front, as in Avro. So
a block of records is one Avro array, of records with the framing around the value's fields. What the framing
says of lengths is compared with what was read, record by record: no value can pretend to be more than one
record. Wherever anything differs, the block is read in the ordinary way instead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyruhvro

from streams.block import Block
from streams.codec.avro_length import varint_bytes
from streams.codec.schemas import Node, is_native_failure
from streams.codec.text import I64, list_offsets, numbers
from streams.varint import varint

_BEFORE = ("__length", "__attributes", "__time", "__offset", "__key")
LENGTH, ATTRIBUTES, TIME, OFFSET, KEY = _BEFORE
HEADERS = "__headers"


@dataclass(frozen=True, slots=True)
class Whole:
    """All n records of a block: fields by the reader's schema, keys, times (int64[n]), the longest value."""

    table: pa.RecordBatch
    keys: pa.Array
    record_ms: I64
    value_bytes_max: int


class Frames:
    """Reads blocks of records whose value, its length included, is as the Avro record `value` says."""

    def __init__(self, value: Node) -> None:
        kinds = {name: "string" if name == KEY else "long" for name in (*_BEFORE, HEADERS)}
        frame = {name: {"name": name, "type": kind} for name, kind in kinds.items()}
        fields = [*(frame[name] for name in _BEFORE), *value["fields"], frame[HEADERS]]
        array = {"name": "records", "type": {"type": "array", "items": {**value, "fields": fields}}}
        self._schema = json.dumps({"type": "record", "name": "__block", "fields": [array]})

    def rows(self, block: Block, body: bytes) -> pa.RecordBatch:
        """The block's records, framing and value; `body`: its bytes. Raises pa.ArrowInvalid."""
        array = b"".join([varint(block.count), body, b"\0"])
        try:
            found = pyruhvro.deserialize_array([array], self._schema)
        except BaseException as error:
            if is_native_failure(error):
                raise pa.ArrowInvalid(str(error)) from error
            raise
        rows = pa.RecordBatch.from_struct_array(found.column(0).values)
        if len(rows) != block.count:
            raise pa.ArrowInvalid(f"{len(rows)} records where the batches' headers say {block.count}")
        return rows

    @staticmethod
    def are_true(block: Block, rows: pa.RecordBatch, value_bytes: I64) -> bool:
        """Whether the framing of each record says what was read; `value_bytes` int64[n]: of its value."""
        said = {name: numbers(rows.column(name))[0] for name in (LENGTH, ATTRIBUTES, OFFSET, TIME, HEADERS)}
        offsets = block.offsets - block.spread([one.base for one in block.segments])
        key_bytes = np.diff(list_offsets(rows.column(KEY)))
        length: Any = 2 + varint_bytes(said[TIME]) + varint_bytes(offsets) + varint_bytes(key_bytes)
        length = length + key_bytes + varint_bytes(value_bytes) + value_bytes
        return bool(
            np.array_equal(said[LENGTH], length)
            and np.array_equal(said[OFFSET], offsets)
            and not said[ATTRIBUTES].any()
            and not said[HEADERS].any()
        )

    @staticmethod
    def whole(block: Block, rows: pa.RecordBatch, table: pa.RecordBatch, value_bytes: I64) -> Whole:
        """What is handed on, of values with the fields `table`. Raises pa.ArrowInvalid for text that is not
        UTF-8."""
        table.validate(full=True)
        keys = rows.column(KEY)
        keys.validate(full=True)
        return Whole(table, keys, _times(block, numbers(rows.column(TIME))[0]), int(value_bytes.max()))


def _times(block: Block, delta_ms: I64) -> I64:
    times: I64 = block.spread([one.first_ms for one in block.segments]) + delta_ms
    if all(one.append_ms is None for one in block.segments):
        return times
    set_ms = block.spread([-1 if one.append_ms is None else one.append_ms for one in block.segments])
    found: Any = np.where(set_ms < 0, times, set_ms)
    return np.asarray(found, np.int64)
