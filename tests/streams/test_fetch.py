"""Fetched bytes to columns: as aiokafka's own unpacking, for every log, from every offset, in every cut."""

from __future__ import annotations

import numpy as np
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from streams.batch import RecordBatch
from streams.faust_private.raw import RawFetch
from streams.fetch import Unpacker
from tests.streams.logs import ABORT, COMMIT, Log

READ_COMMITTED = 1
TP = TopicPartition("t", 3)


def raw(log: Log, start: int = 0, aborted: bool = True, batches_max: int = 1_000) -> RawFetch:
    records, batches = MemoryRecords(log.since(start)), []
    while records.has_next() and len(batches) < batches_max:
        batches.append(records.next_batch())
    next_offset = max(start, batches[-1].next_offset) if batches else start
    return RawFetch("t", 3, start, next_offset, batches, log.aborted(start) if aborted else [], True, log.end)


def as_aiokafka(log: Log, start: int) -> tuple[list[tuple[int, int, bytes | None, bytes | None]], int]:
    records = PartitionRecords(
        TP, MemoryRecords(log.since(start)), log.aborted(start), start, None, None, True, READ_COMMITTED
    )
    found = [(r.offset, r.timestamp, r.key, r.value) for r in records]
    return found, records.next_fetch_offset


def flat(batches: list[RecordBatch]) -> list[tuple[int, int, bytes | None, bytes | None]]:
    return [
        row
        for b in batches
        for row in zip(b.offsets.tolist(), b.timestamps_ms.tolist(), b.keys, b.values, strict=True)
    ]


values = st.lists(st.one_of(st.none(), st.binary(max_size=9)), min_size=1, max_size=7)
steps = st.one_of(
    st.tuples(st.just("plain"), values, st.booleans(), st.integers(0, 2)),
    st.tuples(st.just("transaction"), values, st.integers(1, 3)),
    st.tuples(st.just("end"), st.integers(1, 3), st.sampled_from([COMMIT, ABORT])),
    st.tuples(st.just("gap"), st.integers(1, 4)),
)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    log = Log()
    for step in draw(st.lists(steps, min_size=1, max_size=12)):
        match step:
            case ("plain", found, gzip, removed):
                log.append(found, gzip=gzip, removed=removed)
            case ("transaction", found, producer):
                log.append(found, producer=producer)
            case ("end", producer, how):
                log.finish(producer, how)
            case ("gap", offsets):
                log.gap(offsets)
    for producer in (1, 2, 3):
        log.finish(producer, COMMIT)
    return log


@given(logs(), st.data(), st.integers(1, 9))
def test_records_and_position_are_those_of_aiokafka(log: Log, data: st.DataObject, records_max: int) -> None:
    start = data.draw(st.integers(0, log.end))
    batches = list(Unpacker(raw(log, start)).batches(records_max))
    assert (flat(batches), batches[-1].next_offset if batches else start) == as_aiokafka(log, start)


@given(logs(), st.integers(1, 9))
def test_batches_join_without_a_hole_and_keep_to_their_size(log: Log, records_max: int) -> None:
    fetch = raw(log)
    position = fetch.start
    for batch in Unpacker(fetch).batches(records_max):
        assert batch.start == position
        assert len(batch) <= records_max
        assert len(batch) == 0 or batch.start <= batch.offsets[0] <= batch.offsets[-1] < batch.next_offset
        position = batch.next_offset
    assert position == fetch.next_offset


@given(logs(), st.integers(1, 9), st.data())
def test_reading_again_from_any_cut_gives_the_rest(log: Log, records_max: int, data: st.DataObject) -> None:
    whole = flat(list(Unpacker(raw(log)).batches(10_000)))
    batches = list(Unpacker(raw(log)).batches(records_max))
    cut = data.draw(st.integers(0, len(batches)))
    position = batches[cut - 1].next_offset if cut else 0
    rest = list(Unpacker(raw(log, position)).batches(records_max))
    assert flat(batches[:cut]) + flat(rest) == whole


@given(logs(), st.integers(1, 9), st.integers(1, 5))
def test_fetches_that_follow_each_other_join_to_one(log: Log, records_max: int, batches_max: int) -> None:
    whole = raw(log, batches_max=batches_max)
    while whole.next_offset < log.end:
        more = raw(log, whole.next_offset, batches_max=batches_max)
        if not more.batches:  # nothing but a gap is left
            break
        assert more.goes_on(whole)
        assert not whole.goes_on(more)
        whole = whole.joined(more)
    once = list(Unpacker(raw(log)).batches(records_max))
    assert flat(list(Unpacker(whole).batches(records_max))) == flat(once)
    assert whole.next_offset == raw(log).next_offset


def test_markers_alone_move_the_position() -> None:
    log = Log()
    log.finish(1, COMMIT)
    log.finish(2, COMMIT)
    [batch] = Unpacker(raw(log)).batches(10)
    assert (len(batch), batch.start, batch.next_offset) == (0, 0, 2)


def test_an_aborted_transaction_is_left_out_and_one_that_is_not_listed_is_not() -> None:
    log = Log()
    log.append([b"never"], producer=1)
    log.finish(1, ABORT)
    log.append([b"yes"], producer=1)
    log.finish(1, COMMIT)
    assert [value for *_, value in flat(list(Unpacker(raw(log)).batches(10)))] == [b"yes"]
    uncommitted = list(Unpacker(raw(log, aborted=False)).batches(10))
    assert [value for *_, value in flat(uncommitted)] == [b"never", b"yes"]


def test_a_damaged_batch_is_refused_after_the_good_ones() -> None:
    log = Log()
    log.append([b"good"])
    log.append([b"harmed"])
    log.data[-3] ^= 0xFF
    batches = Unpacker(raw(log)).batches(1)
    assert next(batches).values == [b"good"]
    with pytest.raises(CorruptRecordException, match="does not have its checksum"):
        next(batches)


def test_since_drops_what_was_applied_before() -> None:
    log = Log()
    log.append([b"a", b"b", b"c", b"d"])
    [batch] = Unpacker(raw(log)).batches(10)
    rest = batch.since(2)
    assert (rest.start, rest.next_offset, rest.values) == (2, 4, [b"c", b"d"])
    assert np.array_equal(rest.offsets, [2, 3])
