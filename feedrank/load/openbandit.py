"""Reader of Open Bandit's logs: each row is one impression with its true propensity (before step 1).

The four hashed features of a visitor are the actor; an item has no author (`unknown`) and one category as
its topic where the file of items beside it says so. A click happens at the impression's own time.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from feedrank.load.events import ActivityEvent, BadLine, Event, ItemEvent, Tally, opened

UNKNOWN_AUTHOR = "unknown"
CONTEXT = "_item_context.csv"
VISITOR = [f"user_feature_{n}" for n in range(4)]
WANTED = ("timestamp", "item_id", "position", "click", "propensity_score", *VISITOR)


@dataclass(frozen=True, slots=True)
class Shown:
    """One row: item `item` at 0-based `position`, `click` 0 or 1, P(item at that position) `propensity`."""

    number: int
    time_ms: int
    visitor: str
    item: int
    position: int
    click: int
    propensity: float

    @property
    def slate_id(self) -> str:
        return f"row-{self.number}"


def read(path: Path, tally: Tally) -> Iterator[Shown]:
    """The rows of a file, in its order. Rows that are none go to the tally."""
    with opened(path) as lines:
        header: list[str] = []
        for number, line in lines:
            cells = next(csv.reader([line]))
            if not header:
                header = cells
                _check(path, header, tally)
                continue
            with tally.line(path, number):
                yield _row(number, dict(zip(header, cells, strict=False)))


def _check(path: Path, header: list[str], tally: Tally) -> None:
    missing = [name for name in WANTED if name not in header]
    if missing:
        strict = Tally(strict=True)
        with strict.line(path, 1):
            raise BadLine(f"no Open Bandit file: columns {', '.join(missing)} are missing")


def _row(number: int, cells: dict[str, str]) -> Shown:
    at = datetime.fromisoformat(cells["timestamp"])
    propensity, click = float(cells["propensity_score"]), int(cells["click"])
    if not 0 < propensity <= 1:
        raise BadLine(f"propensity_score is {propensity}, not above 0 and at most 1")
    if click not in (0, 1):
        raise BadLine(f"click is {click}, not 0 or 1")
    visitor = "-".join(cells[name][:12] for name in VISITOR)
    position = int(cells["position"]) - 1
    return Shown(
        number, int(at.timestamp() * 1_000), visitor, int(cells["item_id"]), position, click, propensity
    )


def events(path: Path, tally: Tally | None = None) -> Iterator[Event]:
    """Items (from the first row on) and activities in time order."""
    shown = sorted(read(path, tally or Tally()), key=lambda one: (one.time_ms, one.number))
    if not shown:
        return
    start_ms = shown[0].time_ms
    for item in sorted({one.item for one in shown}):
        yield ItemEvent(f"item-{item}", UNKNOWN_AUTHOR, start_ms, start_ms, kind="fashion")
    for one in shown:
        yield _activity(one, "impression")
        if one.click:
            yield _activity(one, "click")


def _activity(one: Shown, verb: str) -> ActivityEvent:
    identifier, item = f"{verb}-{one.number}", f"item-{one.item}"
    return ActivityEvent(
        identifier, one.visitor, verb, item, one.time_ms, position=one.position, slate_id=one.slate_id
    )
