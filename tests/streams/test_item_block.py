"""A block of items as columns says what the items one by one say, or leaves the block to them."""

from __future__ import annotations

import asyncio
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.attribute_index import AttributeIndex
from models.fingerprint import fp64s
from models.item_columns import ItemRecord
from streams.batch import RecordBatch
from streams.block import BlockBatch, slices
from streams.codec import ItemChanges, ItemDecoder, encode_item
from streams.codec.item_block import AT_ONCE_MAX, ItemBlockReader
from streams.dead_letters import DeadLetter
from streams.limits import EVENT_TIME_MS_MAX
from tests.streams.codec_cases import NOW_MS
from topologies.replay.spool import Record, Spool
from wire.names import ITEMS

READER, DECODER = ItemBlockReader(), ItemDecoder("avro")
NAMES = [f"n{n}" for n in range(9)]
RECORDS = 24
"""Fewer in a record batch are read one by one in any case."""
Item = dict[str, Any]


def item(**changes: Any) -> Item:
    return {"item_id": "n1", "author": "ann", "created_at": NOW_MS, "topics": ["a", "b"], **changes}


def block(*items: Item, keys: list[bytes] | None = None, time_ms: int = NOW_MS) -> RecordBatch:
    """The items, again and again until there are enough, as a spool has them."""
    written = [items[n % len(items)] for n in range(max(RECORDS, len(items)))]
    named = [one["item_id"].encode() for one in written] if keys is None else keys * len(written)
    records = [
        Record(ITEMS, key, encode_item(one, "avro"), time_ms)
        for key, one in zip(named, written, strict=False)
    ]

    async def read(spool: Spool) -> list[RecordBatch]:
        return [one async for one in spool.items()]

    with tempfile.TemporaryDirectory() as directory:
        spool = Spool(Path(directory) / "spool")
        spool.make(records, 1)
        (found,) = asyncio.run(read(spool))
    return found


def both(batch: RecordBatch) -> tuple[AttributeIndex, AttributeIndex]:
    """What is known of the items of a good block, by columns and one by one."""
    columns, records = AttributeIndex(), AttributeIndex()
    found = READER.read(batch)
    assert found is not None
    columns.upsert_columns(found.fp, found.author_fp32, found.topic_fp32, found.embedding)
    changes, dead = DECODER.decode(
        batch.topic, batch.partition, batch.offsets, batch.timestamps_ms, batch.keys, batch.values
    )
    assert not dead
    assert not changes.removed.size
    records.upsert(changes.upserts)
    return columns, records


ITEM = st.fixed_dictionaries(
    {
        "item_id": st.sampled_from(NAMES),
        "author": st.sampled_from(NAMES),
        "created_at": st.integers(NOW_MS - 1_000, NOW_MS + 1_000),
        "topics": st.lists(st.sampled_from(NAMES), max_size=9),
        "embedding": st.one_of(st.none(), st.lists(st.floats(-2, 2, width=32), max_size=64)),
        "title": st.one_of(st.none(), st.just(""), st.just("a\0title")),
        "kind": st.one_of(st.none(), st.just("post")),
        "deleted": st.sampled_from([None, False]),
    }
)


@given(st.lists(ITEM, min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_good_items_are_the_same_either_way(items: list[Item]) -> None:
    columns, records = both(block(*items))
    asked = fp64s(name.encode() for name in [*NAMES, "nobody"])
    ours, theirs = columns.attributes(asked), records.attributes(asked)
    for name in ("known", "author_fp32", "topic_fp32", "embedding"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype


def embedding_of(record: ItemRecord) -> object:
    return None if record.embedding is None else (record.embedding.dtype, record.embedding.tolist())


def told(changes: ItemChanges, dead: list[DeadLetter]) -> tuple[Any, ...]:
    """What a decoder said, as values that can be compared."""
    upserts = [
        (r.item_id, r.author, r.created_ms, r.topics, embedding_of(r), r.title, r.kind)
        for r in changes.upserts
    ]
    return upserts, changes.removed.tolist(), dead


def same_either_way(batch: RecordBatch) -> None:
    place = (batch.topic, batch.partition, batch.offsets, batch.timestamps_ms)
    at_once = told(*DECODER.decode_batch(batch))
    assert at_once == told(*DECODER.decode(*place, batch.keys, batch.values))


@given(st.lists(ITEM, min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_good_items_become_the_same_records_either_way(items: list[Item]) -> None:
    whole = block(*items)
    assert READER.records(whole) is not None
    same_either_way(whole)
    assert isinstance(whole, BlockBatch)
    for part in slices((whole.topic, whole.partition), whole.start, whole.block, 7):
        assert READER.records(part) is not None
        same_either_way(part)


ODD: dict[str, Item] = {
    "deleted": {"deleted": True},
    "empty author": {"author": ""},
    "long author": {"author": "é" * 65},
    "control character": {"author": "a\0"},
    "empty topic": {"topics": ["a", ""]},
    "empty kind": {"kind": ""},
    "seconds": {"created_at": NOW_MS // 1000},
    "from the future": {"created_at": NOW_MS + 300_001},
    "65 dimensions": {"embedding": [1.0] * 65},
    "not a number": {"embedding": [1.0, math.nan]},
    "very many topics": {"topics": [f"t{n}" for n in range(17)]},
    "a key that may be JSON": {"item_id": '{"item_id":"n2"}'},
    "too large": {"title": "x" * 70_000},
}


@pytest.mark.parametrize("odd", ODD)
def test_one_item_out_of_the_ordinary_leaves_the_block_to_the_decoder(odd: str) -> None:
    assert READER.read(block(*[item()] * RECORDS, item(**ODD[odd]))) is None


@pytest.mark.parametrize("odd", ODD)
def test_the_decoder_says_of_it_what_it_says_without_blocks(odd: str) -> None:
    same_either_way(block(*[item()] * RECORDS, item(**ODD[odd])))


def test_more_items_than_may_be_read_in_one_hold_are_read_one_by_one() -> None:
    whole = block(*[item(item_id=f"n{n}") for n in range(AT_ONCE_MAX + 1)])
    assert READER.records(whole) is None
    assert READER.read(whole) is not None


def test_so_does_a_record_timestamp_after_2100() -> None:
    assert READER.read(block(item(), time_ms=EVENT_TIME_MS_MAX)) is not None
    assert READER.read(block(item(), time_ms=EVENT_TIME_MS_MAX + 1)) is None


def test_so_do_keys_of_other_items_and_tombstones() -> None:
    assert READER.read(block(item(), keys=[b"n1", b"n2"])) is None
    records = RecordBatch(
        ITEMS, 0, 0, 1, np.zeros(1, np.int64), np.full(1, NOW_MS, np.int64), [b"n1"], [None]
    )
    assert READER.read(records) is None
