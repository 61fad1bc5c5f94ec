"""Activities as the API takes them: JSON in, checked and completed, ready to produce (1).

The worker checks everything once more; what it refuses becomes a dead letter. A client hears of its mistakes
here, at once and by name. Limits are those of docs/wire.md (a test compares them).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from serving.errors import WrongRequestError
from serving.marks import Kind
from serving.verbs import Verbs
from wire.names import ID_BYTES_MAX

POSTED_MAX = 500
EVENT_TIME_MS_MIN = 631_152_000_000
EVENT_TIME_MS_MAX = 4_102_444_800_000
CLOCK_AHEAD_MS_MAX = 300_000
DWELL_MS_MAX = 86_400_000
POSITION_MAX = 32_767
VISITED = "feed"
"""The object of a visit: it stands for the feed itself."""

BLOCKED_KIND: dict[str, Kind] = {"author": "author", "topic": "topic"}
TARGETS = ("author", "topic", "keyword")
IDS = ("activity_id", "actor", "object", "slate_id")
NUMBERS = {
    "event_time": (EVENT_TIME_MS_MIN, EVENT_TIME_MS_MAX),
    "undone_event_time": (EVENT_TIME_MS_MIN, EVENT_TIME_MS_MAX),
    "dwell_ms": (0, DWELL_MS_MAX),
    "position": (0, POSITION_MAX),
}
FIELDS = frozenset({*IDS, *NUMBERS, "verb", "target", "undone_verb"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Activity = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mark:
    """What an activity hides from its actor at once, or (`hide` False) shows again."""

    user: str
    kind: Kind
    name: str
    hide: bool


def parse_posted(body: bytes, now_ms: int, verbs: Verbs) -> list[Activity]:
    """The activities of a POST: one object or a list, completed with activity_id and event_time.

    Raises WrongRequestError that names every wrong one; then nothing of the request is to be used.
    """
    try:
        posted = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WrongRequestError(f"the body is not JSON ({error}); send one activity or a list") from error
    rows = posted if isinstance(posted, list) else [posted]
    if not 1 <= len(rows) <= POSTED_MAX:
        raise WrongRequestError(f"{len(rows)} activities; send 1 to {POSTED_MAX} at once")
    wrong: list[str] = []
    activities: list[Activity] = []
    for i, row in enumerate(rows):
        try:
            activities.append(_checked(row, now_ms, verbs))
        except ValueError as error:
            wrong.append(f"activity {i}: {error}")
    if wrong:
        raise WrongRequestError("; ".join(wrong[:10]) + "; nothing was sent")
    return activities


def visit(user: str, verb: str, now_ms: int) -> Activity:
    """A read of a feed, as an activity; `verb`: the policy's for it (`Verbs.visit`)."""
    return {
        "activity_id": uuid.uuid4().hex,
        "actor": user,
        "verb": verb,
        "object": VISITED,
        "event_time": now_ms,
    }


def mark_of(activity: Activity, verbs: Verbs) -> Mark | None:
    """What to hide (or show again) right now, before the worker has seen the activity."""
    undone = activity["verb"] in verbs.undoes
    verb = activity.get("undone_verb") if undone else activity["verb"]
    if verb in verbs.hides:
        return Mark(activity["actor"], "item", activity["object"], not undone)
    kind = BLOCKED_KIND.get(activity.get("target", "author"))
    if verb in verbs.blocks and kind:
        return Mark(activity["actor"], kind, activity["object"], not undone)
    return None


def _checked(row: object, now_ms: int, verbs: Verbs) -> Activity:
    if not isinstance(row, dict):
        raise ValueError("not a JSON object; send the fields of an activity")
    unknown = row.keys() - FIELDS
    if unknown:
        raise ValueError(
            f"{', '.join(sorted(unknown))} is not a field; there are {', '.join(sorted(FIELDS))}"
        )
    activity = {name: value for name, value in row.items() if value is not None}
    activity.setdefault("activity_id", uuid.uuid4().hex)
    activity.setdefault("event_time", now_ms)
    for name in ("actor", "verb", "object"):
        if name not in activity:
            raise ValueError(f"{name} is missing")
    for name in IDS:
        if name in activity:
            _check_id(name, activity[name])
    for name, (low, high) in NUMBERS.items():
        if name in activity:
            _check_number(name, activity[name], low, high)
    _check_words(activity, verbs)
    if activity["verb"] in verbs.undoes:
        _check_undo(activity, verbs)
    if activity["event_time"] > now_ms + CLOCK_AHEAD_MS_MAX:
        raise ValueError("event_time is more than 5 minutes ahead; set the clock, or leave it out")
    return activity


def _check_id(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a string")
    if not 1 <= len(value.encode()) <= ID_BYTES_MAX:
        raise ValueError(f"{name} has {len(value.encode())} bytes; ids have 1 to {ID_BYTES_MAX}")
    if _CONTROL.search(value):
        raise ValueError(f"{name} contains a control character; remove it")
    if name == "actor" and value.startswith("}"):
        raise ValueError("actor begins with '}'; choose another id")


def _check_number(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; it is an integer between {low:,} and {high:,}")


def _check_words(activity: Mapping[str, Any], verbs: Verbs) -> None:
    for name in ("verb", "undone_verb"):
        value = activity.get(name)
        if value is None:
            continue
        if not isinstance(value, str) or value not in verbs.names:
            raise ValueError(f"{name} is {value!r}; the policy declares {', '.join(sorted(verbs.names))}")
    if activity.get("target", "author") not in TARGETS:
        raise ValueError(f"target is {activity['target']!r}; write {', '.join(TARGETS)} or leave it out")


def _check_undo(activity: Mapping[str, Any], verbs: Verbs) -> None:
    if not {"undone_verb", "undone_event_time"} <= activity.keys():
        raise ValueError("an undo needs undone_verb and undone_event_time")
    if activity["undone_verb"] in verbs.undoes:
        raise ValueError("an undo cannot be undone; send the activity again with a new activity_id")
