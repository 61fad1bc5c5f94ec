"""Reader of feedrank's own generic format: one JSON object a line (before step 1).

    {"type": "item", "item_id": "i1", "author": "ann", "created_at": "2026-01-01T08:00Z", "topics": ["tea"]}
    {"type": "activity", "actor": "bob", "verb": "like", "object": "i1", "event_time": 1767254400000}

    {"type": "record", "key": "bob", "timestamp": 1767254400000, "value": "AAAAAAB7"}

A `record` is one of the activities topic as it was, in base64: so a recording keeps what is no activity.
The other fields are those of the topics' Avro schemas under the same names; absent ones are null. Times are
milliseconds since 1970 or ISO 8601 with a zone. An activity without `activity_id` gets one from its contents.
Lines are sent in the file's order: write an item before any activity on it, and activities in time order.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import xxhash

from feedrank.load.events import (
    INT32_MAX,
    ActivityEvent,
    BadLine,
    Event,
    ItemEvent,
    RawEvent,
    Tally,
    Told,
    checked_id,
    json_object,
    opened,
    text_of,
    utf8,
    whole_of,
)

EMBEDDING_MAX = 64
FLOAT32_MAX = 3.4028235e38
ITEM_FIELDS = frozenset(
    {"type", "item_id", "author", "created_at", "topics", "embedding", "title", "kind", "deleted"}
)
RECORD_FIELDS = frozenset({"type", "key", "timestamp", "value"})
ACTIVITY_FIELDS = frozenset(
    {
        *("type", "activity_id", "actor", "verb", "object", "target", "event_time", "dwell_ms", "position"),
        *("slate_id", "undone_verb", "undone_event_time"),
    }
)


def events(path: Path, tally: Tally | None = None, told: Told | None = None) -> Iterator[Event]:
    """Items and activities in the file's order; a line is read when its event is asked for."""
    tally = tally or Tally()
    with opened(path, told) as lines:
        for number, line in lines:
            found: Event | None = None
            with tally.line(path, number):
                found = _read(json_object(line), number)
            if found:
                yield found


def _read(line: dict[str, Any], number: int) -> Event:
    kind = line["type"]
    if kind == "item":
        _no_others(line, ITEM_FIELDS)
        return _item(line)
    if kind == "activity":
        _no_others(line, ACTIVITY_FIELDS)
        return _activity(line)
    if kind == "record":
        _no_others(line, RECORD_FIELDS)
        return RawEvent(text_of(line, "key"), _bytes(line["value"]), whole_of(line, "timestamp"), number)
    raise BadLine(f"type is {kind!r}, not item, activity or record")


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError) as error:
        raise BadLine(f"value is not base64 ({error})") from error


def _no_others(line: dict[str, Any], fields: frozenset[str]) -> None:
    others = sorted(set(line) - fields)
    if others:
        raise BadLine(f"unknown field {', '.join(others)}")


def _item(line: dict[str, Any]) -> ItemEvent:
    created_ms = _time_ms(line, "created_at")
    topics = line.get("topics") or []
    if not isinstance(topics, list) or not all(isinstance(one, str) for one in topics):
        raise BadLine("topics is not a list of texts")
    deleted = line.get("deleted", False)
    if not isinstance(deleted, bool):
        raise BadLine(f"deleted is not true or false: {deleted!r}")
    return ItemEvent(
        text_of(line, "item_id"),
        text_of(line, "author"),
        created_ms,
        created_ms,
        tuple(checked_id(topic, "topic") for topic in topics),
        _optional(line, "title", str),
        _optional(line, "kind", str),
        _embedding(line.get("embedding")),
        deleted,
    )


def _activity(line: dict[str, Any]) -> ActivityEvent:
    contents = json.dumps(line, sort_keys=True, ensure_ascii=True)
    undone = line.get("undone_event_time")
    return ActivityEvent(
        text_of(line, "activity_id")
        if line.get("activity_id")
        else f"jsonl:{xxhash.xxh3_128_hexdigest(contents.encode())}",
        text_of(line, "actor"),
        text_of(line, "verb"),
        text_of(line, "object"),
        _time_ms(line, "event_time"),
        _optional(line, "target", str),
        None if line.get("dwell_ms") is None else whole_of(line, "dwell_ms", INT32_MAX),
        None if line.get("position") is None else whole_of(line, "position", INT32_MAX),
        _optional(line, "slate_id", str),
        _optional(line, "undone_verb", str),
        None if undone is None else _time_ms(line, "undone_event_time"),
    )


def _optional(line: dict[str, Any], name: str, kind: type[str]) -> str | None:
    value = line.get(name)
    if value is not None and not isinstance(value, kind):
        raise BadLine(f"{name} is not text: {value!r}")
    return None if value is None else utf8(value, name)


def _embedding(value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= EMBEDDING_MAX:
        raise BadLine(f"embedding is not a list of 1 to {EMBEDDING_MAX} numbers")
    found = tuple(float(one) for one in value)
    if not all(abs(one) <= FLOAT32_MAX for one in found):
        raise BadLine("embedding holds NaN, an infinity or what a 32-bit float cannot")
    return found


def _time_ms(line: dict[str, Any], name: str) -> int:
    """A time in milliseconds since 1970. Raises BadLine for a text without a zone."""
    value = line[name]
    if not isinstance(value, str):
        return whole_of(line, name)
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise BadLine(f"{name} has no time zone: {value}; add Z or an offset")
    return round(at.timestamp() * 1_000)
