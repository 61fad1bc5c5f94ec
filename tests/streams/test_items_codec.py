"""Items: what the index gets from Avro, JSON, change envelopes and tombstones, and what is refused."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.fingerprint import fp64
from models.item_columns import ItemRecord
from streams.codec import ItemChanges, ItemDecoder, encode_item
from streams.codec.embedding import quantise
from streams.dead_letters import DeadLetter, Reason
from streams.limits import EVENT_TIME_MS_MAX
from tests.streams.codec_cases import NOW_MS

FORMATS = ("avro", "json")
DECODERS = {name: ItemDecoder(name) for name in ("avro", "json")}


def item(**changes: Any) -> dict[str, Any]:
    return {"item_id": "i1", "author": "ann", "created_at": NOW_MS, "topics": ["a", "b"], **changes}


def decode(
    value_format: str, values: list[bytes | None], keys: list[bytes | None] | None = None
) -> tuple[ItemChanges, list[DeadLetter]]:
    count = len(values)
    keys = [b"i1"] * count if keys is None else keys
    return DECODERS[value_format].decode("feedrank.items", 2, range(count), [NOW_MS] * count, keys, values)


def only(changes: ItemChanges) -> ItemRecord:
    assert len(changes.upserts) == 1
    return changes.upserts[0]


@pytest.mark.parametrize("value_format", FORMATS)
def test_an_item_is_read(value_format: str) -> None:
    values = item(title="T" * 300, kind="post", topics=list("abacdefg"), embedding=[3.0, 4.0])
    changes, dead = decode(value_format, [encode_item(values, value_format)])
    assert not dead
    found = only(changes)
    assert (found.item_id, found.author, found.created_ms) == ("i1", "ann", NOW_MS)
    assert (found.topics, found.title, found.kind) == (("a", "b", "c", "d"), "T" * 200, "post")
    assert found.embedding is not None
    assert (found.embedding.dtype, found.embedding.tolist()) == (np.int8, [76, 102] + [0] * 62)


@pytest.mark.parametrize("value_format", FORMATS)
def test_absent_fields_are_none(value_format: str) -> None:
    changes, dead = decode(value_format, [encode_item(item(topics=[]), value_format)])
    assert not dead
    found = only(changes)
    assert (found.topics, found.embedding, found.title, found.kind) == ((), None, None, None)


@pytest.mark.parametrize("value_format", FORMATS)
def test_the_last_change_of_an_item_counts(value_format: str) -> None:
    def write(**changes: Any) -> bytes:
        return encode_item(item(**changes), value_format)

    values = [write(), None, write(author="bob"), write(item_id="i2"), write(item_id="i2", deleted=True)]
    changes, dead = decode(value_format, [*values, None], [b"i1", b"i1", b"i1", b"i2", b"i2", b"i3"])
    assert not dead
    assert only(changes).author == "bob"
    assert changes.removed.tolist() == [fp64(b"i2"), fp64(b"i3")]


BROKEN: dict[str, tuple[Reason, dict[str, Any]]] = {
    "empty author": (Reason.EMPTY_ID, {"author": ""}),
    "long author": (Reason.LONG_ID, {"author": "é" * 65}),
    "control character": (Reason.BAD_ID, {"author": "a\0"}),
    "empty topic": (Reason.EMPTY_ID, {"topics": ["a", ""]}),
    "empty kind": (Reason.EMPTY_ID, {"kind": ""}),
    "seconds": (Reason.ABSURD_TIME, {"created_at": NOW_MS // 1000}),
    "from the future": (Reason.CLOCK_AHEAD, {"created_at": NOW_MS + 300_001}),
    "65 dimensions": (Reason.BAD_EMBEDDING, {"embedding": [1.0] * 65}),
    "other id than the key": (Reason.KEY_MISMATCH, {"item_id": "i9"}),
}


@pytest.mark.parametrize("value_format", FORMATS)
@pytest.mark.parametrize("case", BROKEN)
def test_each_rule_has_its_reason(value_format: str, case: str) -> None:
    reason, changes = BROKEN[case]
    good = encode_item(item(), value_format)
    found, dead = decode(value_format, [good, encode_item(item(**changes), value_format), good])
    assert [(letter.offset, letter.reason) for letter in dead] == [(1, reason)]
    assert only(found).author == "ann"


@pytest.mark.parametrize("value_format", FORMATS)
def test_a_record_timestamp_after_2100_is_no_time_either(value_format: str) -> None:
    value, removal = encode_item(item(), value_format), encode_item(item(deleted=True), value_format)
    values = [value, value, value, removal, None]
    times_ms = [EVENT_TIME_MS_MAX, EVENT_TIME_MS_MAX + 1, *[(1 << 63) - 1] * 3]
    keys: list[bytes | None] = [b"i1"] * len(values)
    _, dead = DECODERS[value_format].decode("feedrank.items", 2, range(len(values)), times_ms, keys, values)
    assert [(letter.offset, letter.reason) for letter in dead] == [
        (1, Reason.ABSURD_TIME),
        (2, Reason.ABSURD_TIME),
    ]
    assert "set the producer's clock" in dead[0].message


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused(number: float) -> None:
    _, dead = decode("avro", [encode_item(item(embedding=[1.0, number]))])
    assert [letter.reason for letter in dead] == [Reason.BAD_EMBEDDING]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"item_id":"i1","author":"a","created_at":1.5}', Reason.WRONG_SCHEMA),
        (b'{"item_id":"i1","author":"a"}', Reason.MISSING_FIELD),
        (b'{"author":"a","created_at":5}', Reason.MISSING_FIELD),
        (b'{"item_id":7}', Reason.WRONG_SCHEMA),
        (b'{"item_id":"i1","deleted":"yes"}', Reason.WRONG_SCHEMA),
        (b'{"item_id":"i1","author":"a","created_at":1790000000000,"topics":"x"}', Reason.WRONG_SCHEMA),
        (b'{"item_id":"i1","author":"a","created_at":1790000000000,"title":5}', Reason.WRONG_SCHEMA),
        (b'{"item_id":"i1","author":"a","created_at":1790000000000,"embedding":["1"]}', Reason.WRONG_SCHEMA),
        (
            b'{"item_id":"i1","author":"a","created_at":1790000000000,"embedding":[1e39]}',
            Reason.BAD_EMBEDDING,
        ),
        (b'{"before":null,"after":null,"op":"t"}', Reason.BAD_ENVELOPE),
        (b'{"op":"d","before":null}', Reason.BAD_ENVELOPE),
        (b'{"payload":{"op":"c","after":5}}', Reason.BAD_ENVELOPE),
        (b"[]", Reason.NOT_JSON),
    ],
)
def test_bad_json_items_are_refused(text: bytes, reason: Reason) -> None:
    changes, dead = decode("json", [text, encode_item(item(), "json")])
    assert [letter.reason for letter in dead] == [reason], dead[0].message
    assert len(changes.upserts) == 1


def test_keys_must_name_the_item() -> None:
    good = encode_item(item(), "json")
    _, dead = decode("json", [good, None, None, good], [None, None, b"", b"\xff"])
    assert [d.reason for d in dead] == [
        Reason.NULL_KEY,
        Reason.NULL_KEY,
        Reason.EMPTY_ID,
        Reason.NOT_UTF8,
    ]


@pytest.mark.parametrize("wrapped", [False, True])
def test_debezium_envelopes_are_read(wrapped: bool) -> None:
    def change(op: str, before: object, after: object) -> bytes:
        payload = {"op": op, "before": before, "after": after, "source": {}, "ts_ms": 5}
        return orjson.dumps({"schema": {}, "payload": payload} if wrapped else payload)

    def key(name: str) -> bytes:
        return orjson.dumps({"schema": {}, "payload": {"item_id": name}} if wrapped else {"item_id": name})

    values = [
        change("c", None, item()),
        change("u", item(), item(author="bob")),
        change("r", None, item(item_id="i2")),
        change("d", {"item_id": "i2"}, None),
        None,
    ]
    changes, dead = decode("json", values, [key("i1"), key("i1"), key("i2"), key("i2"), key("i3")])
    assert not dead
    assert only(changes).author == "bob"
    assert changes.removed.tolist() == [fp64(b"i2"), fp64(b"i3")]


def as_float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def by_the_book(vector: list[float]) -> list[int]:
    """The documented rule in plain Python."""
    total = 0.0
    for value in vector:
        total += value * value
    if total == 0:
        return [0] * 64
    return [round(value * 127 / math.sqrt(total)) for value in vector] + [0] * (64 - len(vector))


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=64), max_size=8)
)
def test_embeddings_are_quantised_by_the_documented_rule(vectors: list[list[float]]) -> None:
    padded = np.array([v + [0.0] * (64 - len(v)) for v in vectors], np.float32).reshape(-1, 64)
    assert quantise(padded).tolist() == [by_the_book(v) for v in vectors]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(-1e9, 1e9, width=32), max_size=66) | st.none(),
            st.lists(st.text(max_size=5), max_size=6),
            st.text(max_size=300) | st.none(),
        ),
        max_size=6,
    )
)
def test_avro_and_json_give_equal_items(fields: list[tuple[Any, list[str], str | None]]) -> None:
    documents = [
        item(item_id=f"i{n}", embedding=embedding, topics=topics, title=title)
        for n, (embedding, topics, title) in enumerate(fields)
    ]
    keys: list[bytes | None] = [f"i{n}".encode() for n in range(len(fields))]
    avro, dead_avro = decode("avro", [encode_item(d) for d in documents], keys)
    json, dead_json = decode("json", [encode_item(d, "json") for d in documents], keys)
    assert [(d.offset, d.reason) for d in dead_avro] == [(d.offset, d.reason) for d in dead_json]
    assert len(avro.upserts) == len(json.upserts)
    for one, other in zip(avro.upserts, json.upserts, strict=True):
        assert (one.item_id, one.topics, one.title) == (other.item_id, other.topics, other.title)
        np.testing.assert_array_equal(one.embedding, other.embedding)  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FORMATS), st.integers(0, 200), st.binary(max_size=10), st.integers(0, 2))
def test_mutated_items_never_raise_and_never_touch_a_neighbour(
    value_format: str, at: int, more: bytes, kind: int
) -> None:
    good = encode_item(item(item_id="i2", embedding=[1.0, 2.0], title="t"), value_format)
    bad = (good[:at] + more + good[at + len(more) :], good[:at], good[:at] + more + good[at:])[kind]
    changes, dead = decode(value_format, [good, bad, good], [b"i2", b"i1", b"i2"])
    assert any(record.item_id == "i2" for record in changes.upserts)
    assert {letter.offset for letter in dead} <= {1}
    assert all(letter.value == bad for letter in dead)
