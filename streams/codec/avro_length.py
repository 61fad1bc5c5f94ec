"""How long each record must be, computed from its decoded columns (flow step 1).

The native reader ignores bytes that follow a record. A record's shortest encoding is computed here for a
whole batch at once: one of exactly that length can hide nothing, and only the others need a closer look.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streams.codec.schemas import Node
from streams.codec.text import absent, list_offsets, numbers

I64 = NDArray[np.int64]
_LIMITS: NDArray[np.uint64] = np.array([1 << 7 * n for n in range(1, 10)], np.uint64)
"""A zigzag number of at least _LIMITS[n] needs n + 2 bytes."""
_FIXED_BYTES = {"null": 0, "boolean": 1, "float": 4, "double": 8}


VARINT_ONE_BYTE_MAX, VARINT_TWO_BYTES_MAX = 64, 8_192
"""Lengths from here on need two, or three, bytes."""
ENUM_BYTE_SYMBOLS_MAX = 64
"""Up to so many symbols each is written as one byte."""


class Unsure(Exception):  # noqa: N818
    """A type whose length is not computed here: every record must be looked at."""


def encoded_lengths(node: Node, batch: pa.RecordBatch) -> I64:
    """int64[n]: the shortest encoding of each record, in bytes. Raises Unsure."""
    total = np.zeros(len(batch), np.int64)
    for field, column in zip(node["fields"], batch.columns, strict=True):
        total += _lengths(field["type"], column)
    return total


def shortest_total(node: Node, batch: pa.RecordBatch) -> int | None:
    """The sum of `encoded_lengths`, without a number for each record; None where it is not that simple.

    No record is shorter than its shortest encoding, so a batch of this total has no byte too many anywhere.
    """
    records = len(batch)
    total = 0
    for field, column in zip(node["fields"], batch.columns, strict=True):
        kind = field["type"]
        there = records
        if isinstance(kind, list):
            if len(kind) != 2 or "null" not in kind:
                return None
            kind = kind[kind[0] == "null"]
            there -= column.null_count
            total += records
        if there == 0:
            continue
        size = _total(kind, column, there)
        if size is None:
            return None
        total += size
    return total


def _total(kind: Node, column: pa.Array, there: int) -> int | None:
    """The sum over the `there` values of a column that are not null."""
    if not isinstance(kind, str):
        return None
    if kind in _FIXED_BYTES:
        return there * _FIXED_BYTES[kind]
    if kind == "string":
        offsets = list_offsets(column)
        sizes = offsets[1:] - offsets[:-1]
        long = int(np.count_nonzero(sizes >= VARINT_ONE_BYTE_MAX))
        if long and sizes.max() >= VARINT_TWO_BYTES_MAX:
            return None
        return int(offsets[-1] - offsets[0]) + there + long
    if kind == "long":
        values, absent = numbers(column)
        if absent is not None:
            values = values[~absent]
        size = varint_bytes(values)
        return size * there if isinstance(size, int) else int(size.sum())
    return None


def _lengths(node: Node, column: pa.Array) -> I64 | int:
    kind = node["type"] if isinstance(node, dict) else node
    if isinstance(node, list):
        return _optional(node, column)
    if kind in _FIXED_BYTES:
        return _FIXED_BYTES[kind]
    if kind == "long":
        return varint_bytes(numbers(column)[0])
    if kind in ("string", "bytes"):
        sizes: I64 = np.diff(list_offsets(column))
        return sizes + varint_bytes(sizes)
    if kind == "array":
        return _blocks(list_offsets(column), _lengths(node["items"], column.values))
    if kind == "map":
        entries = _lengths("string", column.keys) + _lengths(node["values"], column.items)
        return _blocks(list_offsets(column), entries)
    if kind == "enum" and len(node["symbols"]) <= ENUM_BYTE_SYMBOLS_MAX:
        return 1
    if kind == "record":
        children = (_lengths(f["type"], c) for f, c in zip(node["fields"], column.flatten(), strict=True))
        return np.zeros(len(column), np.int64) + sum(children)
    raise Unsure(kind)


def _optional(node: Node, column: pa.Array) -> I64 | int:
    """One byte for the branch, then the value where there is one."""
    inner = [branch for branch in node if branch != "null"]
    if len(inner) != 1 or len(node) != 2:
        raise Unsure("union")
    if column.null_count == len(column):
        return 1
    lengths = np.zeros(len(column), np.int64) + _lengths(inner[0], column)
    missing = absent(column)
    if missing is not None:
        lengths[missing] = 0
    return lengths + 1


def _blocks(offsets: I64, elements: I64 | int) -> I64:
    """One block: count, elements, end; only the end where it is empty."""
    counts = np.diff(offsets)
    if isinstance(elements, int):
        content = counts * elements
    else:
        sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(elements)])
        content = sums[offsets[1:]] - sums[offsets[:-1]]
    return content + np.where(counts > 0, varint_bytes(counts), 0) + 1


def varint_bytes(values: I64) -> I64 | int:
    """How many bytes Avro needs for each number; one int where all need the same.

    >>> varint_bytes(np.array([0, -64, 64, 1 << 62])).tolist()
    [1, 1, 2, 10]
    """
    if not len(values):
        return 0
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    least, most = _class(int(zigzag.min())), _class(int(zigzag.max()))
    if least == most:
        return least + 1
    total = np.full(len(values), least + 1, np.int64)
    for limit in _LIMITS[least:most]:
        total += zigzag >= limit
    return total


def _class(zigzag: int) -> int:
    """How many of _LIMITS a number reaches."""
    return max(0, zigzag.bit_length() - 1) // 7
