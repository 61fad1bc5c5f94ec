"""One batch of good and mutated records, decoded, and what must hold of it."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from typing import Any

import fastavro
import numpy as np
import orjson

from models.fingerprint import fp64
from streams.codec import Decoder
from streams.dead_letters import DeadLetter, Reason
from tests.streams.codec_cases import (
    HEADER,
    NOW_MS,
    PARSED,
    PARTITIONS,
    TOPIC,
    VERBS,
    activity,
    actor_in,
    encode,
)

BATCH = 64
PARTITION = 1
MUTATED_SHARE = 0.5
WORDS = (b"\0", b"\xff" * 9, b"null", b'"', b"{", b"}", b"\\u0000", b"9" * 30, b"-", b",", b"\xc3\x28")
UNREADABLE = {
    Reason.BAD_MAGIC, Reason.UNKNOWN_SCHEMA, Reason.TRUNCATED, Reason.TRAILING_BYTES, Reason.NOT_UTF8,
    Reason.NOT_JSON, Reason.MISSING_FIELD, Reason.NULL_VALUE,
}  # fmt: skip
"""Reasons that another reader of the same bytes has to agree with."""


@dataclass
class Tally:
    """What came of the mutated records."""

    mutated: int = 0
    refused: int = 0
    still_good: int = 0


def mutated(value: bytes, draw: random.Random) -> bytes | None:
    """One to three changes: a byte, a bit, a cut, something inserted, repeated, swapped, or nothing left."""
    if draw.random() < 0.01:
        return None
    data = bytearray(value)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at, kind = draw.randrange(len(data) + 1), draw.randrange(7)
        if kind == 0 and at < len(data):
            data[at] = draw.randrange(256)
        elif kind == 1 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = draw.choice(WORDS)
        elif kind == 4:
            data[at:at] = data[at : at + draw.randrange(1, 20)]
        elif kind == 5:
            del data[at : at + draw.randrange(1, 9)]
        else:
            other = draw.randrange(len(data) + 1)
            data[min(at, other) : max(at, other)] = data[min(at, other) : max(at, other)][::-1]
    return bytes(data)


def good(number: int, value_format: str, draw: random.Random) -> bytes:
    """A record that is applied."""
    undo = draw.random() < 0.2
    more: dict[str, Any] = {
        "verb": "undo" if undo else draw.choice(("click", "like", "impression", "follow")),
        "undone_verb": "like" if undo else None,
        "undone_event_time": NOW_MS - 5 if undo else None,
        "position": draw.choice((None, 3)),
        "dwell_ms": draw.choice((None, 70_000)),
        "slate_id": draw.choice((None, "s" * draw.randrange(1, 90))),
        "object": "ä" * draw.randrange(1, 40),
    }
    return encode(value_format, activity(PARTITION, activity_id=f"a{number}", **more))


def play(seed: int, value_format: str, tally: Tally) -> None:
    """One batch. Raises AssertionError that names the seed."""
    draw = random.Random(seed)
    decoder = Decoder(value_format, VERBS, PARTITIONS)  # type: ignore[arg-type]
    first, actor = draw.randrange(1 << 40), actor_in(PARTITION).encode()
    values: list[bytes | None] = [good(n, value_format, draw) for n in range(BATCH)]
    touched = {n for n in range(BATCH) if draw.random() < MUTATED_SHARE}
    for n in touched:
        values[n] = mutated(values[n] or b"", draw)
    offsets = np.arange(first, first + BATCH)
    times, keys = np.full(BATCH, NOW_MS), [actor] * BATCH
    columns, letters = decoder.decode(TOPIC, PARTITION, offsets, times, keys, values)
    applied = dict(zip((columns.offset - first).tolist(), columns.activity_fp.tolist(), strict=True))
    by_row = {letter.offset - first: letter for letter in letters}
    where = f"seed {seed}, {value_format}"
    assert len(by_row) == len(letters), f"{where}: a record has two dead letters"
    assert sorted([*applied, *by_row]) == list(range(BATCH)), f"{where}: a record is lost, or both"
    for n, letter in by_row.items():
        assert n in touched, f"{where}: record {n} is good and was refused: {letter}"
        _check_letter(letter, values[n], actor, where)
        assert letter.reason not in UNREADABLE or not _reads(values[n], value_format), f"{where}: {letter}"
    for n, fp in applied.items():
        if n not in touched:
            assert fp == fp64(f"a{n}".encode()), f"{where}: record {n} was changed by a neighbour"
        else:
            read = _reads(values[n], value_format)
            assert read is not None, f"{where}: {values[n]!r} was applied"
            assert fp == fp64(read["activity_id"].encode()), f"{where}: {values[n]!r} is another activity"
    tally.mutated += len(touched)
    tally.refused += len(letters)
    tally.still_good += len(touched) - len(letters)


def _check_letter(letter: DeadLetter, value: bytes | None, key: bytes, where: str) -> None:
    """Its origin, its bytes, and that it can be sent."""
    assert (letter.topic, letter.partition, letter.value, letter.key) == (TOPIC, PARTITION, value, key), where
    assert letter.message, where
    message = letter.to_message("feedrank.test")
    headers = dict(message.headers)
    assert headers["__connect.errors.offset"] == str(letter.offset).encode(), where
    assert headers["__connect.errors.exception.class.name"] == letter.reason.value.encode(), where
    assert (message.key, message.value) == (key, value), where


def _reads(value: bytes | None, value_format: str) -> dict[str, Any] | None:
    """What another reader makes of the bytes: the fields, or None."""
    if not value:
        return None
    if value_format == "json":
        try:
            found = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
        needed = ("activity_id", "actor", "verb", "object", "event_time")
        return (
            found if isinstance(found, dict) and all(found.get(name) is not None for name in needed) else None
        )
    if value[:5] != HEADER:
        return None
    stream = io.BytesIO(value[5:])
    try:
        read: Any = fastavro.schemaless_reader(stream, PARSED)
    except Exception:  # it raises whatever it meets
        return None
    return read if not stream.read() else None
