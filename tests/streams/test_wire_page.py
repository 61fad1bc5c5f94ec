"""docs/wire.md is a contract: what it shows as examples is read as it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import orjson
import pytest

from streams.codec import Decoder, ItemDecoder
from tests.streams.codec_cases import NOW_MS, PARTITIONS, VERBS
from wire.partitioner import partition_of

PAGE = (Path(__file__).resolve().parents[2] / "docs/wire.md").read_text("utf-8")
ACTIVITY, ITEM = (
    bytes.fromhex("".join(re.findall(r"(?m)^((?:[0-9a-f]{2} )+) ", block)))
    for block in re.findall(r"```text\n(00 00 00 00 00 .*?)```", PAGE, re.S)
)
OBJECTS = [line.encode() for line in re.findall(r"(?m)^\{.*\}$", PAGE)]
ACTIVITIES = [line for line in OBJECTS if b"activity_id" in line]
ITEMS = [line for line in OBJECTS if b"item_id" in line]


@pytest.mark.parametrize(("value_format", "values"), [("avro", [ACTIVITY]), ("json", ACTIVITIES)])
def test_the_activities_of_the_page_are_read(
    value_format: Literal["avro", "json"], values: list[bytes]
) -> None:
    partition, count = partition_of(b"ann", PARTITIONS), len(values)
    times = [NOW_MS + 60_000] * count
    decoder = Decoder(value_format, VERBS, PARTITIONS)
    columns, dead = decoder.decode("t", partition, range(count), times, [b"ann"] * count, values)
    assert not dead
    assert len(columns) == count == (1 if value_format == "avro" else 3)
    assert columns.event_ms[0] == 1_790_000_000_000


@pytest.mark.parametrize(("value_format", "values"), [("avro", [ITEM]), ("json", ITEMS)])
def test_the_item_of_the_page_is_read(value_format: Literal["avro", "json"], values: list[bytes]) -> None:
    changes, dead = ItemDecoder(value_format).decode("t", 0, [0], [NOW_MS], [b"item-7"], values)
    assert not dead
    (found,) = changes.upserts
    assert (found.item_id, found.author, found.created_ms) == ("item-7", "bob", 1_789_990_000_000)
    assert (found.topics, found.title, found.kind) == (("music",), "Hi", None)
    assert found.embedding is not None
    assert found.embedding[:2].tolist() == [76, 102]


def test_the_two_encodings_show_the_same_activity() -> None:
    shown = orjson.loads(ACTIVITIES[0])
    assert [len(ACTIVITY), len(ITEM)] == [int(n) for n in re.findall(r"(\d+) bytes:\n", PAGE)]
    assert (shown["actor"], shown["object"], shown["position"]) == ("ann", "item-7", 2)
