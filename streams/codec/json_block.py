"""Whole record batches of JSON values to columns in one call of Arrow's reader (step 1).

The values are given to it as lines. That no line is more, less or other than one value is looked at before
and after: every line begins with '{' and ends with '}', none has a line break or a backslash in it, and there
are as many objects as lines. Two broken values cannot mend each other then: where one line ends inside an
object or a text, a line break or '{' must not follow. Whatever this reader refuses, or reads in another way
than the one that takes each record by itself (fields unknown or named twice, numbers that are not whole),
is left to that.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.json

from streams.block import Block
from streams.codec.frames import Frames, Whole
from streams.codec.text import Text, list_offsets

_VALUE = "__value"
_OPENS, _CLOSES = ord("{"), ord("}")


class JsonBlockReader:
    """Reads blocks of JSON objects with the flat fields of `schema`: whole numbers and texts."""

    def __init__(self, schema: pa.Schema) -> None:
        text = {"name": _VALUE, "type": "string"}
        self._frames = Frames({"type": "record", "name": "json", "fields": [text]})
        self._schema = schema
        self._parse = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")

    def read(self, block: Block, body: bytes) -> Whole | None:
        """`body`: the block's records. None unless all are good JSON and the framing says what was read."""
        try:
            rows = self._frames.rows(block, body)
            values = rows.column(_VALUE)
            value_bytes = np.diff(list_offsets(values))
            if not self._frames.are_true(block, rows, value_bytes):
                return None
            table = self._objects(values)
            return None if table is None else self._frames.whole(block, rows, table, value_bytes)
        except pa.ArrowException:
            return None

    def _objects(self, values: pa.Array) -> pa.RecordBatch | None:
        if not _one_a_line(Text(values)):
            return None
        lines = b"\n".join(values.view(pa.binary()).to_pylist())
        reading = pa.json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
        table = pa.json.read_json(pa.BufferReader(lines), reading, self._parse).combine_chunks()
        if len(table) != len(values) or not table.schema.equals(self._schema):
            return None
        return table.to_batches()[0]


def _one_a_line(values: Text) -> bool:
    """Whether every value begins with '{', ends with '}' and has no line break and no backslash in it."""
    if not values.lengths.all() or b"\n" in values.data or b"\\" in values.data:
        return False
    data = np.frombuffer(values.data, np.uint8)
    first, last = data[values.offsets[:-1]], data[values.offsets[1:] - 1]
    return bool((first == _OPENS).all() and (last == _CLOSES).all())
