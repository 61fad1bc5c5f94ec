"""Records for the codec's tests: a small policy, good activities in both formats, keys where they belong."""

from __future__ import annotations

import io
import json
from dataclasses import fields
from typing import Any

import fastavro
import numpy as np
import orjson

from models.columns import ActivityColumns
from models.verbs import GraphAct, Role, Verb, VerbTable
from streams.codec.schemas import reader_text
from wire.partitioner import partition_of

PARTITIONS = 4
TOPIC = "feedrank.activities"
NOW_MS = 1_790_000_000_000

VERBS = VerbTable(
    [
        Verb("impression", Role.EXPOSURE),
        Verb("click", Role.WEAK, affinity=1),
        Verb("like", Role.STRONG, affinity=4),
        Verb("hide", Role.NEGATIVE, affinity=-8),
        Verb("follow", Role.GRAPH, graph=GraphAct.FOLLOW),
        Verb("undo", Role.UNDO),
    ]
)
PARSED = fastavro.parse_schema(json.loads(reader_text("activity")))
HEADER = b"\0\0\0\0\0"


def actor_in(partition: int, number: int = 0) -> str:
    """The number-th actor `u<k>` whose key belongs to the partition."""
    found = (f"u{k}" for k in range(10**6) if partition_of(f"u{k}".encode(), PARTITIONS) == partition)
    return next(actor for at, actor in enumerate(found) if at == number)


def activity(partition: int = 0, **changes: Any) -> dict[str, Any]:
    """A good activity of the partition, with changes."""
    return {
        "activity_id": "a1",
        "actor": actor_in(partition),
        "verb": "click",
        "object": "item-1",
        "event_time": NOW_MS,
        **changes,
    }


def avro(document: dict[str, Any]) -> bytes:
    """As a foreign producer would: fastavro, not our encoder."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, PARSED, document)
    return HEADER + out.getvalue()


def as_json(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document)


def encode(value_format: str, document: dict[str, Any]) -> bytes:
    return avro(document) if value_format == "avro" else as_json(document)


def assert_same(one: ActivityColumns, other: ActivityColumns) -> None:
    """Equal in every column and type."""
    assert one.keys == other.keys
    for field in fields(ActivityColumns)[1:]:
        left, right = getattr(one, field.name), getattr(other, field.name)
        assert left.dtype == right.dtype, field.name
        np.testing.assert_array_equal(left, right, field.name)
