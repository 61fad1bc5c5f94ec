"""Columns straight from Kafka's record batches: the same as record by record, whatever the records hold."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.columns import ActivityColumns
from streams import fetch as fetching
from streams.batch import RecordBatch
from streams.block import BlockBatch
from streams.codec import Decoder
from streams.codec.activities import AT_ONCE_RECORDS_MIN, Format
from streams.dead_letters import Reason
from streams.faust_private.raw import RawFetch, batches_of
from streams.fetch import Unpacker
from streams.varint import varint
from tests.streams.codec_cases import (
    NOW_MS,
    PARTITIONS,
    TOPIC,
    VERBS,
    activity,
    actor_in,
    as_json,
    assert_same,
    avro,
)
from tests.streams.logs import Log
from tests.streams.test_fetch import as_aiokafka, flat, logs, raw

PARTITION = 1
DECODER = Decoder("avro", VERBS, PARTITIONS)
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]


@pytest.fixture(autouse=True)
def _small_batches_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SEGMENT_RECORDS_MIN", 0)
    monkeypatch.setattr(fetching, "BLOCK_RECORDS_MIN", 10)
    monkeypatch.setattr(DECODER, "_at_once_min", 0)


def kept(fetch: RawFetch, log: Log) -> RawFetch:
    """The fetch as the worker's consumer hands it out."""
    data = log.since(fetch.start)
    fields = {name: getattr(fetch, name) for name in fetch.__slots__}
    return RawFetch(**{**fields, "raw": batches_of(data, len(fetch.batches))})


@given(logs(), st.data(), st.integers(1, 9))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_records_and_position_are_those_of_aiokafka(log: Log, data: st.DataObject, records_max: int) -> None:
    start = data.draw(st.integers(0, log.end))
    batches = list(Unpacker(kept(raw(log, start), log)).blocks(records_max))
    assert (flat(batches), batches[-1].next_offset if batches else start) == as_aiokafka(log, start)
    position = start
    for batch in batches:
        assert batch.start == position
        assert len(batch) <= records_max
        position = batch.next_offset


def fetched(records: list[Record], codec: str = "none", per_batch: int = 7) -> RawFetch:
    """The records as a broker would send them."""
    data = b""
    for first in range(0, len(records), per_batch):
        part = records[first : first + per_batch]
        builder = DefaultRecordBatchBuilder(
            2,
            CODECS[codec],
            is_transactional=0,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=-1,
            batch_size=1 << 24,
        )
        for n, (key, value, headers) in enumerate(part):
            builder.append(n, NOW_MS + 3 * (first + n), key, value, headers)
        data += first.to_bytes(8, "big") + bytes(builder.build())[8:]
    found, batches = MemoryRecords(data), []
    while found.has_next():
        batches.append(found.next_batch())
    kept_raw = batches_of(data, len(batches))
    return RawFetch(TOPIC, PARTITION, 0, len(records), batches, [], True, len(records), raw=kept_raw)


def good(n: int, **changes: Any) -> Record:
    document = activity(PARTITION, activity_id=f"a{n}", actor=actor_in(PARTITION, n % 3), object=f"i{n % 5}")
    return document["actor"].encode(), avro(document | changes), []


def at_once(batch: RecordBatch, decoder: Decoder = DECODER) -> bool:
    """Whether the batch's block was read without making its records."""
    return isinstance(batch, BlockBatch) and batch.block.made[decoder] is not None


def same_as_one_by_one(
    records: list[Record], codec: str = "none", decoder: Decoder = DECODER
) -> list[RecordBatch]:
    batches = list(Unpacker(fetched(records, codec)).blocks(11))
    assert sum(map(len, batches)) == len(records)
    for batch in batches:
        columns, dead = decoder.decode_batch(batch)
        expected, its_dead = decoder.decode(
            TOPIC, PARTITION, batch.offsets, batch.timestamps_ms, batch.keys, batch.values
        )
        assert_same(columns, expected)
        assert dead == its_dead
    return batches


@pytest.mark.parametrize("codec", CODECS)
def test_good_records_are_read_at_once(codec: str) -> None:
    records = [good(n, dwell_ms=n * 100, slate_id="s" * n or None, position=n) for n in range(100)]
    records[40] = good(40, verb="undo", undone_verb="like", undone_event_time=NOW_MS - 7, target="topic")
    assert all(map(at_once, same_as_one_by_one(records, codec)))


ODD: dict[str, Record] = {
    "no key": (None, good(0)[1], []),
    "no value": (good(0)[0], None, []),
    "nothing": (good(0)[0], b"", []),
    "another's key": (actor_in(PARTITION, 5).encode(), good(0)[1], []),
    "headers": (*good(0)[:2], [("traceparent", b"00-1-2-01")]),
    "an unknown verb": good(0, verb="poke"),
    "a key of another partition": (lambda who: (who.encode(), avro(activity(0)), []))(actor_in(0)),
    "a byte too many": (good(0)[0], (good(0)[1] or b"") + b"\0", []),
    "a byte too few": (good(0)[0], (good(0)[1] or b"")[:-1], []),
    "JSON": (good(0)[0], as_json(activity(PARTITION)), []),
    "another schema": (good(0)[0], b"\0\0\0\0\x07" + (good(0)[1] or b"")[5:], []),
    "not UTF-8": (good(0)[0], (good(0)[1] or b"").replace(b"click", b"cl\xff\xffk"), []),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("at", [0, 6, 29])
def test_an_odd_record_is_judged_alone(name: str, at: int) -> None:
    records = [good(n) for n in range(30)]
    records[at] = ODD[name]
    assert not all(map(at_once, same_as_one_by_one(records)))


def test_what_may_be_bad_is_decoded_in_parts_and_comes_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DECODER, "_unsure_max", 4)
    records = [good(n) for n in range(30)]
    for at in (0, 5, 6, 19):
        records[at] = ODD["a byte too few"]
    for batch in Unpacker(fetched(records, per_batch=30)).blocks(11):
        assert DECODER.records_at_once(batch) == 4
        columns, dead = DECODER.decode_batch(batch)
        cuts = range(0, len(batch), 4)
        parts = [DECODER.decode_batch(batch.cut(first, first + 4)) for first in cuts]
        assert_same(ActivityColumns.joined([part for part, _ in parts]), columns)
        assert [letter for _, letters in parts for letter in letters] == dead
    [whole] = Unpacker(fetched([good(n) for n in range(30)], per_batch=30)).blocks(40)
    assert DECODER.records_at_once(whole) == 30


def test_a_value_cannot_swallow_the_next_record() -> None:
    """Its last bytes pretend to be a record, right in all it says, that goes on into the next one."""
    records = [good(n) for n in range(7)]
    key, value, victim = records[3][0] or b"", records[3][1] or b"", records[4][1] or b""
    before_value = 5 + len(key) + 1  # length, attributes, time, offset, key's length; key; value's length
    end_of_object = victim.index(b"i4") + 2  # what follows reads as the fake's own
    swallowed = before_value + end_of_object
    fields = b"\0\0\0\0\0" + _text(b"forged") + _text(key) + _text(b"like") + varint(swallowed)
    size = len(fields) + swallowed + len(victim) - end_of_object
    inner = b"\0\0" + varint(4) + _text(key) + varint(size)
    fake = b"\0" + varint(len(inner) + size + 1) + inner + fields
    records[3] = (key, value + fake, [])
    [batch] = same_as_one_by_one(records)
    columns, dead = DECODER.decode_batch(batch)
    assert [(letter.offset, letter.reason) for letter in dead] == [(3, Reason.TRAILING_BYTES)]
    assert columns.offset.tolist() == [0, 1, 2, 4, 5, 6]


changes = st.tuples(st.integers(0, 400), st.sampled_from(["set", "insert", "delete"]), st.integers(0, 255))


@given(st.lists(st.tuples(st.integers(0, 29), changes), max_size=3), st.sampled_from(sorted(CODECS)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
def test_any_bytes(edits: list[tuple[int, tuple[int, str, int]]], codec: str) -> None:
    records = [good(n, slate_id="s1", dwell_ms=70) for n in range(30)]
    for which, (at, how, byte) in edits:
        key, value, headers = records[which]
        data = bytearray(value or b"")
        at %= max(len(data), 1)
        if how == "insert":
            data.insert(at, byte)
        elif data and how == "set":
            data[at] = byte
        elif data:
            del data[at]
        records[which] = (key, bytes(data), headers)
    same_as_one_by_one(records, codec)


def test_small_batches_are_read_in_the_ordinary_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SEGMENT_RECORDS_MIN", 16)
    batches = list(Unpacker(fetched([good(n) for n in range(30)])).blocks(11))
    assert not any(isinstance(batch, BlockBatch) for batch in batches)


def _text(text: bytes) -> bytes:
    return varint(len(text)) + text


@pytest.mark.parametrize("value_format", AT_ONCE_RECORDS_MIN)
def test_few_records_are_decoded_one_by_one(value_format: Format) -> None:
    decoder = Decoder(value_format, VERBS, PARTITIONS)
    value = avro if value_format == "avro" else as_json
    for count, few in (
        (AT_ONCE_RECORDS_MIN[value_format] - 1, True),
        (AT_ONCE_RECORDS_MIN[value_format], False),
    ):
        one = activity(PARTITION)
        records: list[Record] = [(one["actor"].encode(), value(one), [])] * count
        [batch] = Unpacker(fetched(records, per_batch=count)).blocks(count)
        assert isinstance(batch, BlockBatch)
        assert len(decoder.decode_batch(batch)[0]) == count
        assert (decoder not in batch.block.made) == few
