"""Reader of the U-Boot social stream: commits are items, reviews and the like are activities (before step 1).

A line `post` is an item: its topics are the path that the commit touches most and the subject's prefix. What
others do to a commit becomes a verb of the default policy (VERBS). `mention` (a person copied on a commit)
has no item as its object and is skipped. An interaction that is dated before its post (the two clocks differ)
brings the item with it: the item is created at the earlier of the two times. An interaction with a commit
without a post makes the item from its own `author`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
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
    milliseconds,
    opened,
    text_of,
)

VERBS = {
    "review": "comment",
    "ack": "like",
    "test": "complete",
    "signoff": "share",
    "codevelop": "share",
    "suggest": "save",
    "report": "save",
}
"""Verb of the stream -> verb of the default policy. `signoff` is never the author's own: someone passes the
commit on. `report` means having reported what the commit mends, which is interest, not a complaint."""
SKIPPED = {"mention": "mention of a person: its object is no item"}
FOLLOW = "follow"
SUBJECT = "subject/"


@dataclass(slots=True)
class _Read:
    """What the file holds, before it is put into order."""

    items: dict[str, ItemEvent]
    activities: list[ActivityEvent]


def events(
    path: Path, tally: Tally | None = None, follows: Path | None = None, told: Told | None = None
) -> Iterator[Event]:
    """Items and activities in time order; at one time items come first and follows last.

    `follows` is a TSV of (seconds, follower, followee). Reads both files whole (about 200 MB for all of it).
    """
    tally = tally or Tally()
    read = _Read({}, [])
    with opened(path, told) as lines:
        for number, line in lines:
            with tally.line(path, number):
                _take(json_object(line), read, tally)
    if follows:
        read.activities += _follows(follows, tally)
    ordered: list[ItemEvent | ActivityEvent] = [*read.items.values(), *read.activities]
    ordered.sort(key=_order)
    yield from ordered


def _order(event: ItemEvent | ActivityEvent) -> tuple[int, int]:
    if isinstance(event, ItemEvent):
        return event.time_ms, 0
    return event.time_ms, 2 if event.verb == FOLLOW else 1


def _take(line: dict[str, Any], read: _Read, tally: Tally) -> None:
    verb = line["verb"]
    if verb == "post":
        _post(line, read.items)
    elif verb in VERBS:
        _interaction(line, VERBS[verb], read)
    elif verb in SKIPPED:
        tally.skip(SKIPPED[verb])
    else:
        raise BadLine(f"unknown verb {verb!r}")


def _post(line: dict[str, Any], items: dict[str, ItemEvent]) -> None:
    item_id, time_ms = text_of(line, "object"), milliseconds(line, "t")
    before = items.get(item_id)
    time_ms = min(time_ms, before.time_ms) if before else time_ms
    topic, prefix = line.get("topic") or "", line.get("prefix") or ""
    topics = [topic] if topic else []
    topics += [f"{SUBJECT}{prefix}"] if prefix else []
    items[item_id] = ItemEvent(
        item_id,
        text_of(line, "actor"),
        time_ms,
        time_ms,
        tuple(checked_id(t, "topic") for t in topics),
        title=f"{prefix or 'commit'}: change in {topic or 'the tree'}",
        kind="commit",
    )


def _interaction(line: dict[str, Any], verb: str, read: _Read) -> None:
    actor, item_id, time_ms = text_of(line, "actor"), text_of(line, "object"), milliseconds(line, "t")
    activity_id = checked_id(f"{line['verb']}:{actor}:{item_id}", "activity_id")
    known = read.items.get(item_id)
    if known is None:
        read.items[item_id] = ItemEvent(item_id, text_of(line, "author"), time_ms, time_ms, kind="commit")
    elif time_ms < known.time_ms:
        read.items[item_id] = replace(known, created_ms=time_ms, time_ms=time_ms)
    read.activities.append(ActivityEvent(activity_id, actor, verb, item_id, time_ms))


def _follows(path: Path, tally: Tally) -> Iterator[ActivityEvent]:
    with opened(path) as lines:
        for number, line in lines:
            if number == 1 and line.startswith("first_interaction_ts\t"):
                continue
            with tally.line(path, number):
                yield _follow(line.rstrip("\r\n").split("\t"))


def _follow(columns: list[str]) -> ActivityEvent:
    if len(columns) != 3 or not columns[0].isdecimal():
        raise BadLine("not three columns: seconds, follower, followee")
    follower, followee = (checked_id(one, "user") for one in columns[1:])
    activity_id = checked_id(f"{FOLLOW}:{follower}:{followee}", "activity_id")
    time_ms = bounded(int(columns[0]) * 1_000, "seconds", INT64_MAX)
    return ActivityEvent(activity_id, follower, FOLLOW, followee, time_ms, target="author")
