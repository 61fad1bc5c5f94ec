"""A fetch becomes columns and dead letters: nothing is lost, no neighbour is touched, never an exception."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.columns import ActivityColumns
from models.fingerprint import fp64
from streams.codec import Decoder, encode_activities, encode_activity
from streams.dead_letters import DeadLetter, Reason
from streams.limits import ACTIVITY_BYTES_MAX, EVENT_TIME_MS_MAX
from tests.streams.codec_cases import (
    NOW_MS,
    PARSED,
    PARTITIONS,
    TOPIC,
    VERBS,
    activity,
    actor_in,
    as_json,
    assert_same,
    avro,
    encode,
)

FORMATS = ("avro", "json")
DECODERS = {name: Decoder(name, VERBS, PARTITIONS) for name in ("avro", "json")}
PARTITION = 1

Decoded = tuple[ActivityColumns, list[DeadLetter]]


def decode(
    value_format: str,
    values: list[bytes | None],
    keys: list[bytes | None] | None = None,
    first: int = 100,
    times_ms: list[int] | None = None,
) -> Decoded:
    """Values as one fetch of PARTITION, with consecutive offsets; record timestamps are NOW_MS."""
    count = len(values)
    keys = [actor_in(PARTITION).encode()] * count if keys is None else keys
    offsets = range(first, first + count)
    times_ms = [NOW_MS] * count if times_ms is None else times_ms
    return DECODERS[value_format].decode(TOPIC, PARTITION, offsets, times_ms, keys, values)


def one(value_format: str, **changes: Any) -> tuple[Reason | None, str]:
    """Why an activity with these changes is refused (None: it is not), and the message."""
    document = activity(PARTITION, **changes)
    good = encode(value_format, activity(PARTITION))
    columns, dead = decode(value_format, [good, encode(value_format, document), good])
    assert columns.offset.tolist() == ([100, 102] if dead else [100, 101, 102])
    assert [letter.offset for letter in dead] in ([], [101])
    return (dead[0].reason, dead[0].message) if dead else (None, "")


@pytest.mark.parametrize("value_format", FORMATS)
def test_a_good_activity_becomes_columns(value_format: str) -> None:
    document = activity(
        PARTITION,
        activity_id="a-ü",
        verb="like",
        object="i-9",
        dwell_ms=1500,
        position=3,
        slate_id="s1",
        target="topic",
    )
    columns, dead = decode(value_format, [encode(value_format, document)])
    assert not dead
    assert columns.keys == [actor_in(PARTITION).encode()]
    assert columns.activity_fp.tolist() == [fp64("a-ü".encode())]
    assert columns.object_fp.tolist() == [fp64(b"i-9")]
    assert columns.slate_fp.tolist() == [fp64(b"s1")]
    assert (columns.verb.tolist(), columns.target.tolist()) == ([VERBS.code["like"]], [1])
    assert (columns.event_ms.tolist(), columns.record_ms.tolist()) == ([NOW_MS], [NOW_MS])
    assert (columns.dwell_ms.tolist(), columns.position.tolist()) == ([1500], [3])
    assert (columns.undone_verb.tolist(), columns.undone_ms.tolist()) == ([-1], [0])
    assert columns.offset.tolist() == [100]


@pytest.mark.parametrize("value_format", FORMATS)
def test_absent_values_have_their_stated_columns(value_format: str) -> None:
    columns, dead = decode(value_format, [encode(value_format, activity(PARTITION))])
    assert not dead
    assert (columns.dwell_ms.tolist(), columns.position.tolist()) == ([0], [-1])
    assert (columns.slate_fp.tolist(), columns.target.tolist()) == ([0], [0])


@pytest.mark.parametrize("value_format", FORMATS)
def test_an_undo_names_what_it_withdraws(value_format: str) -> None:
    undo = activity(PARTITION, verb="undo", undone_verb="like", undone_event_time=NOW_MS - 5)
    columns, dead = decode(value_format, [encode(value_format, undo)])
    assert not dead
    assert (columns.undone_verb.tolist(), columns.undone_ms.tolist()) == ([VERBS.code["like"]], [NOW_MS - 5])


@pytest.mark.parametrize("value_format", FORMATS)
def test_what_only_an_undo_has_is_ignored_elsewhere(value_format: str) -> None:
    like = activity(PARTITION, verb="like", undone_verb="nonsense", undone_event_time=-1)
    columns, dead = decode(value_format, [encode(value_format, like)])
    assert not dead
    assert (columns.undone_verb.tolist(), columns.undone_ms.tolist()) == ([-1], [0])


BROKEN: dict[str, tuple[Reason, dict[str, Any]]] = {
    "no id": (Reason.EMPTY_ID, {"activity_id": ""}),
    "no object": (Reason.EMPTY_ID, {"object": ""}),
    "empty slate": (Reason.EMPTY_ID, {"slate_id": ""}),
    "long id": (Reason.LONG_ID, {"activity_id": "ü" * 65}),
    "long object": (Reason.LONG_ID, {"object": "x" * 129}),
    "control character": (Reason.BAD_ID, {"object": "a\nb"}),
    "zero byte": (Reason.BAD_ID, {"object": "\0position:1"}),
    "delete character": (Reason.BAD_ID, {"slate_id": "a\x7f"}),
    "unknown verb": (Reason.UNKNOWN_VERB, {"verb": "frobnicate"}),
    "seconds": (Reason.ABSURD_TIME, {"event_time": NOW_MS // 1000}),
    "negative time": (Reason.ABSURD_TIME, {"event_time": -1}),
    "microseconds": (Reason.ABSURD_TIME, {"event_time": NOW_MS * 1000}),
    "the largest number": (Reason.ABSURD_TIME, {"event_time": (1 << 63) - 1}),
    "clock ahead": (Reason.CLOCK_AHEAD, {"event_time": NOW_MS + 300_001}),
    "negative dwell": (Reason.BAD_DWELL, {"dwell_ms": -1}),
    "a day of dwell": (Reason.BAD_DWELL, {"dwell_ms": 86_400_001}),
    "negative position": (Reason.BAD_POSITION, {"position": -1}),
    "far position": (Reason.BAD_POSITION, {"position": 32_768}),
    "bad target": (Reason.BAD_TARGET, {"verb": "follow", "target": "planet"}),
    "undo of nothing": (Reason.UNDO_INCOMPLETE, {"verb": "undo"}),
    "undo without time": (Reason.UNDO_INCOMPLETE, {"verb": "undo", "undone_verb": "like"}),
    "undo without verb": (Reason.UNDO_INCOMPLETE, {"verb": "undo", "undone_event_time": NOW_MS}),
    "undo of what?": (
        Reason.UNDO_INCOMPLETE,
        {"verb": "undo", "undone_verb": "frob", "undone_event_time": NOW_MS},
    ),
    "undo of undo": (
        Reason.UNDO_INCOMPLETE,
        {"verb": "undo", "undone_verb": "undo", "undone_event_time": NOW_MS},
    ),
    "undo of absurd time": (
        Reason.ABSURD_TIME,
        {"verb": "undo", "undone_verb": "like", "undone_event_time": 1},
    ),
    "undo of the future": (
        Reason.CLOCK_AHEAD,
        {"verb": "undo", "undone_verb": "like", "undone_event_time": NOW_MS + 300_001},
    ),
}


@pytest.mark.parametrize("value_format", FORMATS)
@pytest.mark.parametrize("case", BROKEN)
def test_each_rule_has_its_reason_and_touches_no_neighbour(value_format: str, case: str) -> None:
    reason, changes = BROKEN[case]
    found, message = one(value_format, **changes)
    assert found == reason
    assert message


@pytest.mark.parametrize("value_format", FORMATS)
def test_what_is_just_within_the_limits_is_taken(value_format: str) -> None:
    for changes in (
        {"activity_id": "x" * 128, "object": "ü" * 64},
        {"event_time": NOW_MS + 300_000},
        {"dwell_ms": 86_400_000, "position": 32_767},
        {"dwell_ms": 0, "position": 0},
        {"event_time": 631_152_000_000},
        {"object": "~ \u0085é𝔸{}"},
    ):
        assert one(value_format, **changes) == (None, "")


@pytest.mark.parametrize("value_format", FORMATS)
@pytest.mark.parametrize("undone", [None, NOW_MS])
def test_a_record_timestamp_after_2100_is_no_time_either(value_format: str, undone: int | None) -> None:
    latest, largest = EVENT_TIME_MS_MAX, (1 << 63) - 1
    times_ms = [latest, latest + 1, largest - 300_000, largest, -1, -(1 << 63)]
    undo = {} if undone is None else {"verb": "undo", "undone_verb": "like", "undone_event_time": undone}
    value = encode(value_format, activity(PARTITION, **undo))
    columns, dead = decode(value_format, [value] * len(times_ms), times_ms=times_ms)
    assert columns.record_ms.tolist() == [latest]
    absurd, ahead = Reason.ABSURD_TIME, Reason.CLOCK_AHEAD
    assert [letter.reason for letter in dead] == [absurd, absurd, absurd, ahead, ahead]
    assert f"the record timestamp is {largest}" in dead[2].message
    assert "set the producer's clock" in dead[2].message


def test_an_unknown_verb_names_the_table_and_lists_the_verbs() -> None:
    _, message = one("avro", verb="luve")
    assert "[verbs]" in message
    assert "'luve'" in message
    assert "impression, click, like, hide, follow, undo" in message


@pytest.mark.parametrize("value_format", FORMATS)
def test_keys_and_partitions_must_fit(value_format: str) -> None:
    here, elsewhere = actor_in(PARTITION), actor_in(PARTITION + 1)
    good = encode(value_format, activity(PARTITION))
    stray = encode(value_format, activity(PARTITION, actor=elsewhere))
    brace = encode(value_format, activity(PARTITION, actor="}x"))
    columns, dead = decode(
        value_format,
        [good, good, good, stray, good, brace],
        [here.encode(), None, elsewhere.encode(), elsewhere.encode(), here.encode(), b"}x"],
    )
    assert columns.offset.tolist() == [100, 104]
    assert {letter.offset: letter.reason for letter in dead} == {
        101: Reason.NULL_KEY,
        102: Reason.KEY_MISMATCH,
        103: Reason.MISROUTED,
        105: Reason.BAD_ID,
    }
    assert "partitioner=murmur2_random" in dead[2].message


BYTES: dict[str, tuple[str, Callable[[bytes], bytes | None], Reason]] = {
    "null": ("avro", lambda good: None, Reason.NULL_VALUE),
    "empty": ("avro", lambda good: b"", Reason.TRUNCATED),
    "only a header": ("avro", lambda good: good[:5], Reason.TRUNCATED),
    "half a header": ("avro", lambda good: good[:3], Reason.TRUNCATED),
    "truncated": ("avro", lambda good: good[:-1], Reason.TRUNCATED),
    "trailing byte": ("avro", lambda good: good + b"\0", Reason.TRAILING_BYTES),
    "two records": ("avro", lambda good: good + good, Reason.TRAILING_BYTES),
    "oversized": ("avro", lambda good: good + b"x" * ACTIVITY_BYTES_MAX, Reason.OVERSIZED),
    "json": ("avro", lambda good: as_json(activity()), Reason.BAD_MAGIC),
    "no such schema": ("avro", lambda good: b"\0\0\0\0\7" + good[5:], Reason.UNKNOWN_SCHEMA),
    "not utf-8": ("avro", lambda good: good.replace(b"item-1", b"item\xff1"), Reason.NOT_UTF8),
    "no such branch": ("avro", lambda good: good[:-1] + b"\4", Reason.WRONG_SCHEMA),
    "negative length": ("avro", lambda good: good[:5] + b"\1" + good[6:], Reason.WRONG_SCHEMA),
    "null json": ("json", lambda good: None, Reason.NULL_VALUE),
    "empty json": ("json", lambda good: b"", Reason.TRUNCATED),
    "truncated json": ("json", lambda good: good[:-1], Reason.TRUNCATED),
    "truncated text": ("json", lambda good: good[: good.index(b"item") + 2], Reason.TRUNCATED),
    "two objects": ("json", lambda good: good + good, Reason.TRAILING_BYTES),
    "not json": ("json", lambda good: b"{nonsense}", Reason.NOT_JSON),
    "avro": ("json", lambda good: avro(activity()), Reason.NOT_JSON),
    "a list": ("json", lambda good: b"[" + good + b"]", Reason.NOT_JSON),
    "a number": ("json", lambda good: b"5", Reason.NOT_JSON),
    "json not utf-8": ("json", lambda good: good.replace(b"item-1", b"item\xff1"), Reason.NOT_UTF8),
    "oversized json": ("json", lambda good: good + b" " * ACTIVITY_BYTES_MAX, Reason.OVERSIZED),
    "deep json": ("json", lambda good: b'{"a":' * 2000 + b"1" + b"}" * 2000, Reason.NOT_JSON),
}


@pytest.mark.parametrize("case", BYTES)
def test_bad_bytes_are_a_dead_letter_with_their_origin_and_reason(case: str) -> None:
    value_format, spoil, reason = BYTES[case]
    good = encode(value_format, activity(PARTITION))
    bad = spoil(good)
    columns, dead = decode(value_format, [good, bad, good])
    assert columns.offset.tolist() == [100, 102]
    letter = dead[0]
    assert letter.reason == reason, letter.message
    assert (letter.topic, letter.partition, letter.offset) == (TOPIC, PARTITION, 101)
    assert (letter.timestamp_ms, letter.key, letter.value) == (NOW_MS, actor_in(PARTITION).encode(), bad)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"actor": None}, Reason.MISSING_FIELD),
        ({"verb": None}, Reason.MISSING_FIELD),
        ({"event_time": None}, Reason.MISSING_FIELD),
        ({"actor": 5}, Reason.WRONG_SCHEMA),
        ({"event_time": "2026"}, Reason.WRONG_SCHEMA),
        ({"event_time": float(NOW_MS)}, Reason.WRONG_SCHEMA),
        ({"dwell_ms": True}, Reason.WRONG_SCHEMA),
        ({"dwell_ms": 1.5}, Reason.WRONG_SCHEMA),
        ({"dwell_ms": (1 << 64) - 1}, Reason.WRONG_SCHEMA),
        ({"position": [1]}, Reason.WRONG_SCHEMA),
        ({"slate_id": {"a": 1}}, Reason.WRONG_SCHEMA),
    ],
)
def test_json_of_the_wrong_type_is_refused(changes: dict[str, Any], reason: Reason) -> None:
    found, message = one("json", **changes)
    assert found == reason
    assert next(iter(changes)) in message


def test_json_names_may_be_escaped_and_further_fields_are_ignored() -> None:
    plain = as_json(activity(PARTITION, target="keyword", verb="follow"))
    escaped = plain.replace(b'"target"', b'"\\u0074arget"').replace(b"}", b',"more":[1,{"x":null}]}')
    columns, dead = decode("json", [plain, escaped])
    assert not dead
    assert columns.target.tolist() == [2, 2]


def test_two_broken_json_records_do_not_mend_each_other() -> None:
    good = as_json(activity(PARTITION))
    columns, dead = decode("json", [good[:40], good[40:], good])
    assert columns.offset.tolist() == [102]
    assert [letter.offset for letter in dead] == [100, 101]


def test_an_empty_fetch_and_a_fetch_without_a_good_record_are_fine() -> None:
    for value_format in FORMATS:
        assert len(decode(value_format, [])[0]) == 0
        columns, dead = decode(value_format, [None, b"\xff" * 40, b""])
        assert len(columns) == 0
        assert len(dead) == 3


def test_a_number_that_is_longer_than_it_must_be_is_still_a_number() -> None:
    good = avro(activity(PARTITION, position=3))
    at = good.rindex(b"\2\6\0")
    padded = good[: at + 1] + b"\x86\x00" + good[at + 2 :]
    columns, dead = decode("avro", [good, padded, good])
    assert not dead
    assert columns.position.tolist() == [3, 3, 3]


TEXT = st.text(max_size=40) | st.text("ab\0\n}é", max_size=3) | st.just("x" * 140)
NUMBERS = st.integers(-(1 << 40), 1 << 40) | st.integers(-5, 40_000)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Mostly good activities; each optional field may be there."""
    times = st.integers(NOW_MS - 10**9, NOW_MS + 400_000) | st.integers(-(1 << 63), (1 << 63) - 1)
    optional = {
        "target": TEXT | st.sampled_from(["author", "topic", "keyword"]),
        "dwell_ms": st.integers(-5, 86_400_010),
        "position": st.integers(-2, 33_000),
        "slate_id": TEXT,
        "undone_verb": st.sampled_from(["like", "undo", "nope"]),
        "undone_event_time": times,
    }
    document = activity(
        PARTITION,
        activity_id=draw(TEXT),
        object=draw(TEXT),
        verb=draw(st.sampled_from([*VERBS.code, "nope"])),
        event_time=draw(times),
    )
    for name, values in optional.items():
        if draw(st.booleans()):
            document[name] = draw(values)
    return document


@settings(max_examples=150, deadline=None)
@given(st.lists(documents(), max_size=12))
def test_avro_and_json_give_equal_columns_and_equal_refusals(batch: list[dict[str, Any]]) -> None:
    from_avro, dead_avro = decode("avro", [avro(document) for document in batch])
    from_json, dead_json = decode("json", [as_json(document) for document in batch])
    assert_same(from_avro, from_json)
    assert [(d.offset, d.reason, d.message) for d in dead_avro] == [
        (d.offset, d.reason, d.message) for d in dead_json
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(documents(), min_size=1, max_size=30), st.data())
def test_a_fetch_decodes_as_its_records_do_alone(batch: list[dict[str, Any]], data: st.DataObject) -> None:
    value_format = data.draw(st.sampled_from(FORMATS))
    values: list[bytes | None] = [encode(value_format, document) for document in batch]
    columns, dead = decode(value_format, values)
    alone = [decode(value_format, [value], first=100 + at) for at, value in enumerate(values)]
    assert dead == [letter for _, letters in alone for letter in letters]
    assert columns.offset.tolist() == [int(found.offset[0]) for found, _ in alone if len(found)]
    assert columns.object_fp.tolist() == [int(found.object_fp[0]) for found, _ in alone if len(found)]


Mutation = tuple[int, int, int, bytes]


def mutate(value: bytes, kind: int, at: int, byte: int, more: bytes) -> bytes:
    """Change a byte, cut, insert, append or repeat."""
    at %= max(1, len(value))
    return (
        value[:at] + bytes([byte]) + value[at + 1 :],
        value[:at],
        value[:at] + more + value[at:],
        value + more,
        value[at:] + value,
    )[kind]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.integers(2, 40),
    st.lists(
        st.tuples(
            st.integers(0, 4), st.integers(0, 200), st.integers(0, 255), st.binary(min_size=1, max_size=12)
        ),
        min_size=1,
        max_size=5,
    ),
    st.randoms(use_true_random=False),
)
def test_mutated_records_never_raise_and_never_touch_a_neighbour(
    value_format: str, count: int, mutations: list[Mutation], random: Any
) -> None:
    clean = [
        encode(value_format, activity(PARTITION, activity_id=f"a{n}", position=n, slate_id="s" * (n + 1)))
        for n in range(count)
    ]
    values: list[bytes | None] = list(clean)
    touched = {}
    for mutation in mutations:
        row = random.randrange(count)
        touched[row] = values[row] = mutate(clean[row], *mutation)
    columns, dead = decode(value_format, values)
    letters = {letter.offset - 100: letter for letter in dead}
    assert len(letters) == len(dead)
    assert set(letters) <= set(touched)
    assert all(letter.value == touched[row] for row, letter in letters.items())
    assert sorted([*(columns.offset - 100).tolist(), *letters]) == list(range(count))
    expected = {n: fp64(f"a{n}".encode()) for n in range(count)}
    for offset, found, position in zip(columns.offset, columns.activity_fp, columns.position, strict=True):
        row = int(offset) - 100
        if row not in touched:
            assert (int(found), int(position)) == (expected[row], row)
        elif value_format == "avro":
            stream = io.BytesIO((values[row] or b"")[5:])
            read = fastavro.schemaless_reader(stream, PARSED)
            assert stream.read() == b""
            assert int(found) == fp64(read["activity_id"].encode())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=8))
def test_noise_is_set_aside_whole(noise: list[bytes]) -> None:
    for value_format, head in (("avro", b"\0\0\0\0\0"), ("avro", b""), ("json", b"{"), ("json", b"")):
        values: list[bytes | None] = [head + value for value in noise]
        columns, dead = decode(value_format, values)
        assert len(columns) + len(dead) == len(noise)


def test_our_encoders_write_what_others_read() -> None:
    rich = activity(PARTITION, dwell_ms=5, position=2, slate_id="s", target="topic", verb="follow")
    assert encode_activity(rich) == avro(rich)
    columns = {name: [rich[name], activity(PARTITION).get(name)] for name in rich}
    assert encode_activities(columns) == [avro(rich), avro({**activity(PARTITION)})]
    assert decode("json", [encode_activity(rich, "json")])[1] == []
    assert encode_activity(rich, schema_id=70_000)[:5] == b"\0\0\1\x11\x70"
    assert encode_activities(columns, schema_id=0x7FA0_00FF)[0][:5] == b"\0\x7f\xa0\0\xff"
    with pytest.raises(ValueError, match=r"docs/wire\.md"):
        encode_activity({"actor": "x"})
    for form, name in (("avro", "event_time"), ("avro", "position"), ("json", "event_time")):
        with pytest.raises(ValueError, match=r"docs/wire\.md"):
            encode_activity({**rich, name: 10**30}, form)  # type: ignore[arg-type]


def test_a_large_batch_with_bad_records_keeps_offset_order() -> None:
    values: list[bytes | None] = [avro(activity(PARTITION, activity_id=f"a{n}")) for n in range(3000)]
    bad = {7, 8, 1500, 2999}
    for row in bad:
        values[row] = (values[row] or b"")[:-3]
    columns, dead = decode("avro", values)
    assert {letter.offset - 100 for letter in dead} == bad
    assert np.all(np.diff(columns.offset) > 0)
    assert len(columns) == 2996
