"""Item statistics of the format before: as this version makes them of activities without positions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.fingerprint import fp64
from models.item_deltas import EXAMINED, Deltas, decode, position_fp
from models.items import ITEM_ROW
from models.older_items import DELTAS_HEADER, DELTAS_MAGIC, DERIVED_2, ROW_2
from streams.durable import POSITION_KEY
from streams.store import ShardStore
from tests.topologies.in_process import run
from tests.topologies.test_catalogue import batch, item, made, marker
from tests.topologies.test_item_shard import BUCKET_MS, DAY_MS, T0, TICK_MS, Disk, shard, without_ticks
from topologies.item_keys import fps_of, keys_of
from topologies.stored_rows import DiskRows

UNKNOWN_PLACE = 16
Counts = list[tuple[int, int, int]]


def cells(
    counted: list[tuple[int, int, int]], watermark_ms: int, engagers: list[int] | None = None
) -> Deltas:
    """Of (item, ms, column) each once; impressions with the weight of a place that nobody knows."""
    sums: Counter[tuple[int, int, int]] = Counter()
    for fp, at_ms, column in counted:
        sums[fp, at_ms // BUCKET_MS, column] += 1
        if column == 0 and fp != position_fp(3):
            sums[fp, at_ms // BUCKET_MS, EXAMINED] += UNKNOWN_PLACE
    fps, buckets, columns = zip(*sums, strict=True)
    who = np.array(engagers or [], np.uint64)
    return Deltas(
        0,
        watermark_ms,
        watermark_ms // 1_000,
        np.array(fps, np.uint64),
        np.array(buckets, np.int32),
        np.array(list(sums.values()), np.int32),
        np.array(columns, np.int8),
        np.full(who.size, fps[0], np.uint64),
        who << np.uint64(1),
        np.full(who.size, T0 // 1_000, np.uint32),
    )


def as_it_was(one: Deltas) -> bytes:
    """The message that the version before wrote of the same activities."""
    kept = one.column != EXAMINED
    head = DELTAS_HEADER.pack(DELTAS_MAGIC, one.sender, one.watermark_ms, kept.sum(), one.engager.size)
    parts = (one.cell_fp[kept], one.bucket[kept], one.count[kept], one.engager_fp, one.engager, one.engager_s)
    return b"".join([head, *(part.tobytes() for part in parts), one.column[kept].tobytes()])


def row_as_it_was(value: bytes) -> bytes:
    """A row of the version before, of one of this."""
    return _only(np.frombuffer(value, ITEM_ROW), ROW_2)


def _only(rows: NDArray[np.void], dtype: np.dtype[np.void]) -> bytes:
    found = np.zeros(rows.size, dtype)
    for name in set(dtype.names or ()) & set(rows.dtype.names or ()):
        found[name] = rows[name]
    return found.tobytes()


def upgraded(disk: Disk) -> Disk:
    """What the version before would have left there."""
    old = Disk()
    old.published = list(disk.published)
    for key, value in disk.rows.items():
        assert value is not None
        if key == POSITION_KEY:
            record = orjson.loads(value) | {"row_format": 2}
            del record["positions"]
            old.rows[key] = orjson.dumps(record)
        else:
            old.rows[key] = row_as_it_was(value)
    old.rocks = {key: value for key, value in old.rows.items() if key != POSITION_KEY}
    return old


def test_sizes_are_those_of_that_version() -> None:
    assert (ROW_2.itemsize, DERIVED_2.itemsize, DELTAS_HEADER.size) == (1_152, 248, 24)


events = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 3, position_fp(3)]), st.integers(T0 - 9 * DAY_MS, T0), st.integers(0, 4)
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(events, events)
def test_rows_of_both_formats_go_on_side_by_side(before: Counts, after: Counts) -> None:
    calm, one = Disk(), shard()
    calm.feed(one, cells(before, T0, engagers=[7, 8]))
    calm.tick(one, T0)
    disk = upgraded(calm)
    other = disk.restart()
    assert other.gate.positions == [0]
    for state, where in ((one, calm), (other, disk)):
        where.feed(state, cells(after, T0 + TICK_MS))
        where.tick(state, T0 + TICK_MS)
    assert without_ticks(disk.known()) == without_ticks(calm.known())
    again = disk.restart()
    for fp in {fp for fp, _, _ in [*before, *after]}:
        key = keys_of(np.array([fp], np.uint64))[0]
        for state, where in ((one, calm), (again, disk)):
            wanted = state.absent([cells([(fp, T0, 1)], T0)])
            state.load({k: v for k in wanted if (v := where.rows.get(k)) is not None})
        rows = [state.arena.rows[state.arena.lookup([key])[0][0]].tobytes() for state in (one, again)]
        assert rows[0] == rows[1]


def test_only_what_changes_is_written_anew() -> None:
    calm, one = Disk(), shard()
    calm.feed(one, cells([(1, T0 - 20 * DAY_MS, 0), (2, T0, 0)], T0))
    calm.commit(one)
    disk = upgraded(calm)
    other = disk.restart()
    disk.feed(other, cells([(2, T0, 1)], T0 + TICK_MS))
    disk.tick(other, T0 + TICK_MS)
    sizes = {int(fps_of([k[1:]])[0]): len(v or b"") for k, v in disk.rows.items() if k != POSITION_KEY}
    assert sizes == {1: ROW_2.itemsize, 2: ITEM_ROW.itemsize}
    assert orjson.loads(disk.rows[POSITION_KEY] or b"")["row_format"] == 3


@given(events)
def test_deltas_on_their_way_are_read(counted: Counts) -> None:
    sent = cells(counted, T0, engagers=[5])
    found = decode(as_it_was(sent))

    def sums(one: Deltas) -> dict[tuple[int, int, int], int]:
        parts = (one.cell_fp, one.bucket, one.column)
        keys = zip(*(part.tolist() for part in parts), strict=True)
        return dict(zip(keys, one.count.tolist(), strict=True))

    assert sums(found) == sums(sent)
    assert (found.watermark_ms, found.position) == (T0, 0)
    assert found.engager.tolist() == sent.engager.tolist()


def test_records_that_readers_find_at_their_start_are_read() -> None:
    one, _ = made(partitions=1)
    record = np.zeros(1, DERIVED_2)
    record["tick"], record["d7"][0, 0] = 4, 5
    key = keys_of(np.array([fp64(b"i1")], np.uint64))[0]
    name, mark = marker(4)
    old_mark = orjson.dumps({k: v for k, v in orjson.loads(mark).items() if k in ("tick", "as_of_ms")})
    run(one.items_came(batch([item("i1")])))
    run(one.features_came(batch([(key, record.tobytes()), (name, old_mark)])))
    run(one.refresh(4, 40))
    slot = one.index.lookup(fps_of([key]))[0]
    assert one.index.derived["examined"][slot] == 5 * UNKNOWN_PLACE
    assert one.index.statistics.examined == 5 * UNKNOWN_PLACE


@pytest.mark.parametrize("row_format", [2, 3])
def test_commands_that_look_into_rows_see_them_as_of_today(row_format: int, tmp_path: Path) -> None:
    disk, state = Disk(), shard()
    disk.feed(state, cells([(1, T0, 0), (2, T0, 2)], T0))
    disk.commit(state)
    stored = upgraded(disk) if row_format == 2 else disk
    store = ShardStore(tmp_path / "item-rows-0")
    store.write_whole(list(stored.rows.items()))
    store.close()
    found = DiskRows(tmp_path, 1).newest("item-rows", 0, lambda key: key != POSITION_KEY)
    assert {k: v for k, v in found.items() if k != POSITION_KEY} == {
        k: v for k, v in disk.rows.items() if k != POSITION_KEY
    }
