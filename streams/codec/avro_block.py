"""Whole record batches of Avro values to columns in one call of the native reader (step 1)."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from streams.block import Block
from streams.codec.avro_length import Unsure, encoded_lengths
from streams.codec.frames import Frames, Whole
from streams.codec.schemas import HEADER_BYTES, ID_FIELD, MAGIC_FIELD, WriterSchema
from streams.codec.text import numbers

VALUE_BYTES = "__value"


class BlockReader:
    """Reads blocks whose values are all of one writer's schema."""

    def __init__(self, writer: WriterSchema) -> None:
        self._writer = writer
        native = json.loads(writer.native)
        length = {"name": VALUE_BYTES, "type": "long"}
        self._frames = Frames({**native, "fields": [length, *native["fields"]]})
        self._names = [field["name"] for field in native["fields"]]

    def read(self, block: Block, body: bytes, schema_id: bytes) -> Whole | None:
        """`body`: the block's records; `schema_id`: the first one's. None unless all is as it must be."""
        try:
            rows = self._frames.rows(block, body)
            written = rows.select(self._names)
            value_bytes = encoded_lengths(self._writer.measured, written)
            ids = np.frombuffer(written.column(ID_FIELD).buffers()[1], "V4", len(rows))
            right = (
                np.array_equal(numbers(rows.column(VALUE_BYTES))[0], value_bytes)
                and self._frames.are_true(block, rows, value_bytes)
                and not numbers(written.column(MAGIC_FIELD))[0].any()
                and bool((ids == np.void(schema_id)).all())
            )
            if not right:
                return None
            return self._frames.whole(block, rows, self._writer.resolve(written), value_bytes)
        except (pa.ArrowException, Unsure):
            return None


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
