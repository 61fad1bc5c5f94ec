"""Reader of RankLens: rankings become impressions with position and slate (before step 1).

A movie's genres, then its tags, are its topics and its director is its author. An item exists from its own
line on; the few that are shown without one exist from their first ranking on, by an unknown author.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from feedrank.load.events import (
    INT64_MAX,
    ActivityEvent,
    BadLine,
    Event,
    ItemEvent,
    Tally,
    Told,
    bounded,
    checked_id,
    json_object,
    opened,
    text_of,
)

UNKNOWN_AUTHOR = "unknown"
TOPICS_MAX = 16
IMPRESSION = "impression"


class _Seen:
    """What earlier lines said: which items exist, and where each ranking showed which item."""

    def __init__(self) -> None:
        self.items: set[str] = set()
        self.positions: dict[str, dict[str, int]] = {}


def events(path: Path, tally: Tally | None = None, told: Told | None = None) -> Iterator[Event]:
    """Items and activities in the file's order, which is time order; a line is read when its events are asked
    for. Which item a ranking showed where is held for the clicks after it."""
    tally = tally or Tally()
    seen = _Seen()
    with opened(path, told) as lines:
        for number, line in lines:
            found: list[Event] = []
            with tally.line(path, number):
                found = _read(json_object(line), seen)
            yield from found


def _read(line: dict[str, Any], seen: _Seen) -> list[Event]:
    kind = line["event"]
    time_ms = bounded(int(line["timestamp"]), "timestamp", INT64_MAX)
    if kind == "item":
        return [_item(line, time_ms, seen)]
    if kind == "ranking":
        return _ranking(line, time_ms, seen)
    if kind == "interaction":
        return [_interaction(line, time_ms, seen)]
    raise BadLine(f"unknown event {kind!r}")


def _item(line: dict[str, Any], time_ms: int, seen: _Seen) -> ItemEvent:
    values = {one["name"]: one["value"] for one in line["fields"]}
    topics = dict.fromkeys([*values.get("genres", ()), *values.get("tags", ())])
    item_id = text_of(line, "item")
    item = ItemEvent(
        item_id,
        checked_id(values.get("director") or UNKNOWN_AUTHOR, "director"),
        time_ms,
        time_ms,
        tuple(checked_id(topic, "topic") for topic in list(topics)[:TOPICS_MAX]),
        title=values.get("title"),
        kind="movie",
    )
    seen.items.add(item_id)
    return item


def _ranking(line: dict[str, Any], time_ms: int, seen: _Seen) -> list[Event]:
    slate_id, user = text_of(line, "id"), text_of(line, "user")
    shown = [text_of(one, "id") for one in line["items"]]
    new = [one for one in dict.fromkeys(shown) if one not in seen.items]
    found: list[Event] = [ItemEvent(one, UNKNOWN_AUTHOR, time_ms, time_ms, kind="movie") for one in new]
    found += [
        ActivityEvent(
            checked_id(f"{slate_id}:{position}", "activity_id"),
            user,
            IMPRESSION,
            item_id,
            time_ms,
            position=position,
            slate_id=slate_id,
        )
        for position, item_id in enumerate(shown)
    ]
    seen.items.update(new)
    seen.positions[slate_id] = {item_id: position for position, item_id in enumerate(shown)}
    return found


def _interaction(line: dict[str, Any], time_ms: int, seen: _Seen) -> ActivityEvent:
    slate_id, item_id = text_of(line, "ranking"), text_of(line, "item")
    if slate_id not in seen.positions:
        raise BadLine(f"ranking {slate_id} has not been shown")
    return ActivityEvent(
        text_of(line, "id"),
        text_of(line, "user"),
        text_of(line, "type"),
        item_id,
        time_ms,
        position=seen.positions[slate_id].get(item_id),
        slate_id=slate_id,
    )
