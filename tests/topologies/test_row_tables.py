"""Rows as tables: whatever bits a row has, it comes back the same."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.graph import GraphRow
from models.items import ITEM_ROW
from models.user_row import USER_ROW
from topologies.row_tables import items_rows, items_table, users_rows, users_table


def any_row(dtype: np.dtype[np.void], rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Every field with random bits; the reserved part is zeros, as docs/state.md has it."""
    row = np.frombuffer(bytearray(rng.bytes(dtype.itemsize)), dtype)
    if "reserved" in (dtype.names or ()):
        row["reserved"] = np.zeros(1, "V4")
    return row


def through_a_file(table: pa.Table) -> pa.Table:
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=2)
    return pq.read_table(file)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.integers(0, 5))
def test_user_rows_come_back_bit_for_bit(seed: int, users: int) -> None:
    rng = np.random.default_rng(seed)
    rows: dict[bytes, bytes] = {}
    for number in range(users):
        user = f"ü{number}}}".encode()
        row, shown = any_row(USER_ROW, rng), int(rng.integers(0, 700))
        row["seen_count"] = shown
        rows[b"u" + user] = row.tobytes()
        for page in range(min(-(-shown // 64), 8)):
            rows[b"s" + bytes([page]) + user] = rng.bytes(512)
        if rng.random() < 0.7:
            counts = rng.integers(0, 4, 3)
            edges = [np.frombuffer(rng.bytes(8 * count), "<u8") for count in counts]
            kinds = [rng.integers(0, 3, count).astype(np.uint8) for count in counts]
            rows[b"g" + user] = GraphRow(*edges, *kinds).encode()
    assert users_rows(through_a_file(users_table(rows))) == rows


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.integers(0, 5))
def test_item_rows_come_back_bit_for_bit(seed: int, items: int) -> None:
    rng = np.random.default_rng(seed)
    rows = {b"i" + rng.bytes(8): any_row(ITEM_ROW, rng).tobytes() for _ in range(items)}
    assert items_rows(through_a_file(items_table(rows))) == rows


def test_what_is_no_row_and_no_table_is_refused() -> None:
    with pytest.raises(ValueError, match="not of 1488 bytes"):
        users_table({b"uann": b"short"})
    with pytest.raises(ValueError, match="columns are not those"):
        users_rows(pa.table({"user": ["ann"]}))
