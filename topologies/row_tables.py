"""Rows as Arrow tables and back, bit for bit (2, 4): one column per field of docs/state.md.

Fields of several numbers are lists of fixed size, row by row of the field (`shape` in the column's metadata).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from models.graph import GraphRow
from models.items import ITEM_ROW
from models.seen import PAGE, PAGE_BYTES
from models.user_row import USER_ROW
from topologies.stored_rows import FP_BYTES, page_count, users_in

EDGES = ("follows", "mutes", "blocks")
KINDS = ("follow_kinds", "mute_kinds", "block_kinds")
Rows = Mapping[bytes, bytes]


def _names(dtype: np.dtype[np.void]) -> list[str]:
    return [name for name in dtype.names or () if name != "reserved"]


def _fields(dtype: np.dtype[np.void]) -> list[pa.Field]:
    found = []
    for name in _names(dtype):
        cell, shape = dtype[name].subdtype or (dtype[name], ())
        kind = pa.from_numpy_dtype(cell)
        size = int(np.prod(shape))
        text = "x".join(map(str, shape))
        found.append(pa.field(name, pa.list_(kind, size) if shape else kind, metadata={"shape": text}))
    return found


USERS = pa.schema(
    [
        pa.field("user", pa.string()),
        *_fields(USER_ROW),
        pa.field("seen", pa.list_(pa.uint64())),
        *(pa.field(name, pa.list_(pa.uint64())) for name in EDGES),
        *(pa.field(name, pa.list_(pa.uint8())) for name in KINDS),
    ]
)
ITEMS = pa.schema([pa.field("fp", pa.uint64()), *_fields(ITEM_ROW)])


def users_table(rows: Rows) -> pa.Table:
    """USERS of some users, in the order of their ids. Raises ValueError for rows that are none."""
    users = users_in(rows)
    packed = _packed([rows.get(b"u" + user, b"") for user in users], USER_ROW)
    seen = [_seen(user, rows) for user in users]
    graphs = [_graph(rows.get(b"g" + user)) for user in users]
    columns = [pa.array([user.decode() for user in users], pa.string()), *_columns(packed)]
    columns.append(pa.array(seen, pa.list_(pa.uint64())))
    for at, name in enumerate((*EDGES, *KINDS)):
        column = [None if graph is None else graph[at] for graph in graphs]
        columns.append(pa.array(column, USERS.field(name).type))
    return pa.Table.from_arrays(columns, schema=USERS)


def items_table(rows: Rows) -> pa.Table:
    """ITEMS, in the order of fingerprints. Raises ValueError for rows that are none."""
    keys = sorted(key for key in rows if key[:1] == b"i" and len(key) == 1 + FP_BYTES)
    fps = np.array([int.from_bytes(key[1:], "big") for key in keys], np.uint64)
    packed = _packed([rows[key] for key in keys], ITEM_ROW)
    return pa.Table.from_arrays([pa.array(fps), *_columns(packed)], schema=ITEMS)


def users_rows(table: pa.Table) -> dict[bytes, bytes]:
    """The way back: tagged key -> bytes. Raises ValueError for a table of another schema."""
    packed = _unpacked(table, USER_ROW, USERS)
    users = [user.encode() for user in table.column("user").to_pylist()]
    size, block = USER_ROW.itemsize, packed.tobytes()
    found = {b"u" + user: block[at * size : (at + 1) * size] for at, user in enumerate(users)}
    for user, entries in zip(users, table.column("seen").to_pylist(), strict=True):
        raw = np.array(entries or (), "<u8").tobytes()
        found |= {
            b"s" + bytes([page]) + user: raw[page * PAGE_BYTES : (page + 1) * PAGE_BYTES]
            for page in range(len(raw) // PAGE_BYTES)
        }
    lists = zip(*(table.column(name).to_pylist() for name in (*EDGES, *KINDS)), strict=True)
    for user, edges in zip(users, lists, strict=True):
        if edges[0] is not None:
            kinds = ("<u8",) * 3 + ("u1",) * 3
            arrays = [np.array(one, kind) for one, kind in zip(edges, kinds, strict=True)]
            found[b"g" + user] = GraphRow(*arrays).encode()
    return found


def items_rows(table: pa.Table) -> dict[bytes, bytes]:
    """The way back: tagged key -> bytes. Raises ValueError for a table of another schema."""
    packed = _unpacked(table, ITEM_ROW, ITEMS)
    size, block = ITEM_ROW.itemsize, packed.tobytes()
    return {
        b"i" + fp.to_bytes(FP_BYTES, "big"): block[at * size : (at + 1) * size]
        for at, fp in enumerate(table.column("fp").to_pylist())
    }


def _packed(values: Sequence[bytes], dtype: np.dtype[np.void]) -> Any:
    wrong = [at for at, value in enumerate(values) if len(value) != dtype.itemsize]
    if wrong:
        raise ValueError(
            f"{len(wrong)} rows are not of {dtype.itemsize} bytes; `feedrank state verify` tells more"
        )
    return np.frombuffer(b"".join(values), dtype)


def _columns(packed: Any) -> list[Any]:
    found = []
    for name in _names(packed.dtype):
        values = np.ascontiguousarray(packed[name])
        flat = pa.array(values.reshape(-1))
        per_row = (
            values[0].size if values.ndim > 1 and len(values) else int(np.prod(packed.dtype[name].shape))
        )
        found.append(pa.FixedSizeListArray.from_arrays(flat, per_row) if values.ndim > 1 else flat)
    return found


def _unpacked(table: pa.Table, dtype: np.dtype[np.void], schema: pa.Schema) -> Any:
    if not table.schema.equals(schema):
        raise ValueError("its columns are not those that `feedrank state export` of this version writes")
    packed = np.zeros(table.num_rows, dtype)
    for name in _names(dtype):
        column = table.column(name).combine_chunks()
        values = column.flatten() if dtype[name].shape else column
        packed[name] = values.to_numpy().reshape((table.num_rows, *dtype[name].shape))
    return packed


def _seen(user: bytes, rows: Rows) -> Any:
    pages = page_count(rows.get(b"u" + user, bytes(USER_ROW.itemsize)))
    raw = b"".join(rows.get(b"s" + bytes([page]) + user, bytes(PAGE_BYTES)) for page in range(pages))
    entries = np.frombuffer(raw, "<u8")
    assert entries.size == pages * PAGE
    return entries if pages else None


def _graph(raw: bytes | None) -> list[Any] | None:
    if raw is None:
        return None
    graph = GraphRow.decode(raw)
    return [getattr(graph, name) for name in (*EDGES, *KINDS)]
