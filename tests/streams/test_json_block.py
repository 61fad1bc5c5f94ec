"""JSON straight from Kafka's record batches: the same as record by record, whatever the records hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.batch import RecordBatch
from streams.codec import Decoder
from tests.streams import test_block
from tests.streams.codec_cases import (
    NOW_MS,
    PARTITIONS,
    VERBS,
    activity,
    actor_in,
    as_json,
)
from tests.streams.test_block import CODECS, PARTITION, Record, _small_batches_too, at_once

__all__ = ["_small_batches_too"]

DECODER = Decoder("json", VERBS, PARTITIONS)
ACTOR = actor_in(PARTITION)


@pytest.fixture(autouse=True)
def _few_at_once_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DECODER, "_at_once_min", 0)


def good(n: int, **changes: Any) -> Record:
    document = activity(PARTITION, activity_id=f"a{n}", actor=actor_in(PARTITION, n % 3), object=f"i{n % 5}")
    return document["actor"].encode(), as_json(document | changes), []


def text(value: str | bytes) -> Record:
    return ACTOR.encode(), value.encode() if isinstance(value, str) else value, []


def all_at_once(batches: list[RecordBatch]) -> bool:
    return all(at_once(batch, DECODER) for batch in batches)


def same_as_one_by_one(records: list[Record], codec: str = "none") -> list[RecordBatch]:
    return test_block.same_as_one_by_one(records, codec, DECODER)


@pytest.mark.parametrize("codec", CODECS)
def test_good_records_are_read_at_once(codec: str) -> None:
    records = [good(n, dwell_ms=n * 100, slate_id="s" * n or None, position=n) for n in range(100)]
    records[40] = good(40, verb="undo", undone_verb="like", undone_event_time=NOW_MS - 7, target="topic")
    records[50] = good(50, object="ö€𝄞", slate_id=None)
    spaced = (records[60][1] or b"").replace(b",", b" ,\t").replace(b":", b" : ")
    records[60] = (records[60][0], spaced, [])
    assert all_at_once(same_as_one_by_one(records, codec))


FIELDS = f'"activity_id":"a1","actor":"{ACTOR}","verb":"click","object":"i1"'
TIME = f'"event_time":{NOW_MS}'
ODD: dict[str, list[Record]] = {
    "no key": [(None, good(0)[1], [])],
    "no value": [(good(0)[0], None, [])],
    "nothing": [text("")],
    "another's key": [(actor_in(PARTITION, 5).encode(), good(0)[1], [])],
    "headers": [(*good(0)[:2], [("traceparent", b"00-1-2-01")])],
    "an unknown verb": [good(0, verb="poke")],
    "an unknown field": [good(0, colour="red")],
    "an unknown field, broken": [text(f'{{{FIELDS},{TIME},"x":1e999}}')],
    "nested too deeply": [text(f'{{{FIELDS},{TIME},"x":{"[" * 2000}{"]" * 2000}}}')],
    "a field twice": [text(f'{{{FIELDS},{TIME},"object":"i2"}}')],
    "a time with a point": [text(f'{{{FIELDS},"event_time":{NOW_MS}.0}}')],
    "a time as text": [text(f'{{{FIELDS},"event_time":"{NOW_MS}"}}')],
    "a time as a date": [text(f'{{{FIELDS},"event_time":"2026-01-01T00:00:00"}}')],
    "a time with an exponent": [text(f'{{{FIELDS},"event_time":179e10}}')],
    "a time too large": [text(f'{{{FIELDS},"event_time":9223372036854775808}}')],
    "a leading zero": [text(f'{{{FIELDS},"event_time":0{NOW_MS}}}')],
    "true": [text(f'{{{FIELDS},{TIME},"dwell_ms":true}}')],
    "not a number": [text(f'{{{FIELDS},{TIME},"dwell_ms":NaN}}')],
    "a number as id": [text(f'{{"activity_id":7,"actor":"{ACTOR}","verb":"click","object":"i1",{TIME}}}')],
    "escaped": [text(f'{{{FIELDS},{TIME},"slate_id":"\\u0041"}}')],
    "half a surrogate": [text(f'{{{FIELDS},{TIME},"slate_id":"\\udc00"}}')],
    "a surrogate as UTF-8": [text(f'{{{FIELDS},{TIME},"slate_id":"'.encode() + b'\xed\xb0\x80"}')],
    "not UTF-8": [text((good(0)[1] or b"").replace(b"click", b"cl\xff\xffk"))],
    "a line break in a text": [text(f'{{{FIELDS},{TIME},"slate_id":"a\nb"}}')],
    "a NUL in a text": [text(f'{{{FIELDS},{TIME},"slate_id":"a\0b"}}')],
    "a trailing comma": [text(f"{{{FIELDS},{TIME},}}")],
    "a comment": [text(f"{{{FIELDS},/* now */{TIME}}}")],
    "a byte order mark": [text(b"\xef\xbb\xbf" + (good(0)[1] or b""))],
    "a list": [text("[1]")],
    "null": [text("null")],
    "two objects": [text(f"{{{FIELDS},{TIME}}}{{{FIELDS},{TIME}}}")],
    "two lines": [text(f"{{{FIELDS},{TIME}}}\n{{{FIELDS},{TIME}}}")],
    "half and half": [text(f"{{{FIELDS},"), text(f"{TIME}}}")],
    "half and half, with brackets": [text(f'{{{FIELDS},"slate_id":"x}}'), text(f'{{y",{TIME}}}')],
    "a break where none is, none where one is": [
        text(f"{{{FIELDS},{TIME}}}\n{{{FIELDS}"),
        text(f",{TIME}}}"),
    ],
    "nothing and two": [text(""), text(f"{{{FIELDS},{TIME}}}\n{{{FIELDS},{TIME}}}")],
    "an object in an object": [text('{"object":{"a":1}'), text(f"{{{FIELDS},{TIME}}}}}")],
    "a list over two": [text('{"object":[{"a":1}'), text("{}]}")],
    "oversized": [good(0, slate_id="s" * 20_000)],
    "Avro": [text(b"\0\0\0\0\0\x04a1")],
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("at", [0, 6, 28])
def test_an_odd_record_is_judged_alone(name: str, at: int) -> None:
    records = [good(n) for n in range(30)]
    odd = ODD[name]
    records[at : at + len(odd)] = odd
    assert not all_at_once(same_as_one_by_one(records))


@pytest.mark.parametrize("document", ['{"event_time":-0}', '{"verb":null}', "{}", '{"position":-1}', "{ }"])
def test_what_breaks_a_rule_is_judged_alone(document: str) -> None:
    same_as_one_by_one([*(good(n) for n in range(9)), text(document)])


PIECES = [b"{", b"}", b"[", b"]", b'"', b",", b":", b"\n", b" ", b"1", b"-", b"0", b".", b"e", b"null", b"\\"]
PIECES += [b"}\n{", b"}{", b'"object"', b'"event_time"', b'"x"', b'"position":7,', b"true", b"\xc3", b"\xa9"]
pieces = st.sampled_from([*PIECES, b"\x7f", b"\0"])
edits = st.tuples(st.integers(0, 29), st.integers(0, 200), st.integers(0, 12), pieces)


@given(st.lists(edits, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=400)
def test_any_text(changes: list[tuple[int, int, int, bytes]]) -> None:
    """`which` record, from where, how many bytes are replaced by what."""
    records = [good(n, slate_id="s1", dwell_ms=70) for n in range(30)]
    for which, at, gone, piece in changes:
        key, value, headers = records[which]
        data = value or b""
        at %= len(data) + 1
        records[which] = (key, data[:at] + piece + data[at + gone :], headers)
    same_as_one_by_one(records)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
def test_neighbours_cut_anywhere_do_not_mend_each_other(data: st.DataObject) -> None:
    """The text of three neighbours, line breaks or none between them, cut into three values elsewhere."""
    records = [good(n) for n in range(12)]
    between = data.draw(st.sampled_from([b"", b"\n", b",\n"]))
    whole = between.join(value or b"" for _, value, _ in records[4:7])
    brackets = [at for at in range(len(whole) + 1) if whole[at - 1 : at + 1] in (b"}{", b"}\n", b"\n{")]
    places = st.integers(0, len(whole)) | st.sampled_from(brackets or [0])
    first, second = sorted([data.draw(places), data.draw(places)])
    values = [whole[:first], whole[first:second], whole[second:]]
    records[4:7] = [(key, value, []) for (key, _, _), value in zip(records[4:7], values, strict=True)]
    same_as_one_by_one(records)
