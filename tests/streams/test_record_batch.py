"""Record batches that we make ourselves are what aiokafka's reader, and a broker, take them for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.durable import Row
from streams.record_batch import Body, Producer, Records, record_batch, split

NOW_MS = 1_700_000_000_000
SENDER = Producer(7, 3, 40)

keys = st.binary(min_size=1, max_size=70)
values = st.one_of(st.none(), st.binary(max_size=80), st.sampled_from([b"", bytes(300), bytes(9_000)]))
one_shape = st.integers(0, 200).flatmap(
    lambda n: st.integers(0, 90).map(lambda size: [(b"k%07d" % i, bytes([i % 251]) * size) for i in range(n)])
)
many = st.lists(st.one_of(st.lists(st.tuples(keys, values), max_size=5), one_shape), max_size=6)


def opened(batch: bytes) -> Any:
    """The one batch in these bytes."""
    found = MemoryRecords(bytes(batch))
    one = found.next_batch()
    assert not found.has_next()
    assert one.validate_crc()
    return one


def read(batch: bytes) -> list[tuple[int, int, bytes, bytes | None]]:
    return [(r.offset, r.timestamp, r.key, r.value) for r in opened(batch)]


@given(many)
@settings(max_examples=150, deadline=None)
def test_is_read_back_as_it_was(parts: list[list[Row]]) -> None:
    rows = [row for part in parts for row in part]
    if rows:
        batch = record_batch(Body.of(Records.of(rows)), NOW_MS, SENDER)
        assert read(batch) == [(at, NOW_MS, *row) for at, row in enumerate(rows)]


@pytest.mark.parametrize("count", [1, 7, 8, 64, 65, 8_191, 8_193, 9_000])
def test_offsets_of_any_length(count: int) -> None:
    rows: list[Row] = [(b"k%05d" % i, b"v" * 20) for i in range(count)]
    assert read(record_batch(Body.of(Records.of(rows)), NOW_MS, SENDER)) == [
        (at, NOW_MS, *row) for at, row in enumerate(rows)
    ]


def test_a_small_batch_is_byte_for_byte_what_aiokafka_makes() -> None:
    rows: list[Row] = [(b"k%d" % i, b"v" * i) for i in range(20)]
    theirs = DefaultRecordBatchBuilder(
        2, 0, is_transactional=1, producer_id=7, producer_epoch=3, base_sequence=40, batch_size=1 << 20
    )
    for at, (key, value) in enumerate(rows):
        theirs.append(at, NOW_MS, key, value, [])
    ours, built = record_batch(Body.of(Records.of(rows)), NOW_MS, SENDER), bytearray(theirs.build())
    leader_epoch = slice(12, 16)  # unknown to a producer; aiokafka says 0
    ours[leader_epoch] = built[leader_epoch]
    assert ours == built


def test_rows_of_zeros_take_little() -> None:
    rows: list[Row] = [(b"k%07d" % i, bytes(1_000)) for i in range(1_000)]
    batch = record_batch(Body.of(Records.of(rows)), NOW_MS, SENDER)
    assert opened(batch).compression_type == 3
    assert len(batch) < 50_000


@given(many, st.integers(1, 20_000), st.booleans())
@settings(max_examples=100, deadline=None)
def test_split_keeps_all_and_the_last_one_last(parts: list[list[Row]], most: int, any_order: bool) -> None:
    rows = [row for part in parts for row in part]
    batches = [list(zip(one.keys, one.values, strict=True)) for one in split(rows, most, any_order)]
    together = [row for batch in batches for row in batch]
    assert all(batches)
    if any_order:
        assert sorted(together, key=repr) == sorted(rows, key=repr)
        assert together[-1:] == rows[-1:]
    else:
        assert together == rows
    for one in split(rows, most, any_order):
        made = record_batch(Body.of(one), NOW_MS, SENDER)
        assert len(one) == 1 or int(np.maximum(one.lengths, 0).sum()) <= most
        assert len(read(made)) == len(one)
