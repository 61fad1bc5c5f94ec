"""Stored rows against recomputed ones (2): every difference, by field, and what may explain it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from models.graph import GraphRow
from models.items import ITEM_ROW
from models.user_row import INTERESTS, USER_ROW

LISTS = ("follows", "mutes", "blocks", "follow_kinds", "mute_kinds", "block_kinds")


class Verdict(Enum):
    """Of one user. `GONE`: some of the user's records have left the log, so that nobody can tell. `ITEMS`:
    only interests differ; items that were changed or removed since they were merged explain that."""

    SAME = "same"
    DIFFERENT = "different"
    ITEMS = "items"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of a row (`user.m5`, `seen.3`, `graph.follows`) that is another; values as text."""

    field: str
    stored: str
    recomputed: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one user or item; `id`: theirs, of an item perhaps the 8 bytes of its key."""

    id: bytes
    verdict: Verdict
    differences: tuple[Difference, ...] = ()


def reconcile(
    user: bytes, stored: Mapping[bytes, bytes], again: Mapping[bytes, bytes], from_the_start: bool
) -> Finding:
    """Compare one user's rows. `from_the_start`: the log still holds everything since the rows began."""
    found = [*_row(user, stored, again), *_pages(user, stored, again), *_graph(user, stored, again)]
    if not found:
        return Finding(user, Verdict.SAME)
    if not from_the_start and _records(user, stored) > _records(user, again):
        return Finding(user, Verdict.GONE)
    interests = {f"user.{name}" for name in INTERESTS.names or ()}
    verdict = Verdict.ITEMS if {one.field for one in found} <= interests else Verdict.DIFFERENT
    return Finding(user, verdict, tuple(found))


def reconcile_item(key: bytes, stored: bytes | None, again: bytes | None, from_the_start: bool) -> Finding:
    """Compare one item's row. `from_the_start`: as `reconcile` says; without it a difference says nothing."""
    found = _fields("item", stored, again, ITEM_ROW)
    if not found:
        return Finding(key, Verdict.SAME)
    return Finding(key, Verdict.DIFFERENT, tuple(found)) if from_the_start else Finding(key, Verdict.GONE)


def _records(user: bytes, rows: Mapping[bytes, bytes]) -> int:
    raw = rows.get(b"u" + user)
    return int(np.frombuffer(raw, USER_ROW)["records"][0]) if raw else 0


def _row(user: bytes, stored: Mapping[bytes, bytes], again: Mapping[bytes, bytes]) -> list[Difference]:
    return _fields("user", stored.get(b"u" + user), again.get(b"u" + user), USER_ROW)


def _fields(name: str, a: bytes | None, b: bytes | None, row: np.dtype[np.void]) -> list[Difference]:
    """Fields of a row that are another."""
    if a == b:
        return []
    if a is None or b is None:
        return [Difference(name, _there(a), _there(b))]
    if len(a) != row.itemsize:
        return [Difference(name, f"{len(a)} bytes, no {name} row", _there(b))]
    one, other = np.frombuffer(a, row)[0], np.frombuffer(b, row)[0]
    return [
        Difference(f"{name}.{part}", _text(one[part]), _text(other[part]))
        for part in row.names or ()
        if one[part].tobytes() != other[part].tobytes()
    ]


def _pages(user: bytes, stored: Mapping[bytes, bytes], again: Mapping[bytes, bytes]) -> list[Difference]:
    keys = sorted({key for rows in (stored, again) for key in rows if key[:1] == b"s"})
    return [
        Difference(f"seen.{key[1]}", _there(stored.get(key)), _there(again.get(key)))
        for key in keys
        if stored.get(key) != again.get(key)
    ]


def _graph(user: bytes, stored: Mapping[bytes, bytes], again: Mapping[bytes, bytes]) -> list[Difference]:
    a, b = (rows.get(b"g" + user) for rows in (stored, again))
    if a == b:
        return []
    if a is None or b is None:
        return [Difference("graph", _there(a), _there(b))]
    try:
        one, other = GraphRow.decode(a), GraphRow.decode(b)
    except ValueError as error:
        return [Difference("graph", str(error), _there(b))]
    return [
        Difference(f"graph.{name}", _text(getattr(one, name)), _text(getattr(other, name)))
        for name in LISTS
        if getattr(one, name).tobytes() != getattr(other, name).tobytes()
    ]


def _there(value: bytes | None) -> str:
    return "no row" if value is None else f"{len(value)} bytes"


def _text(value: object) -> str:
    """On one line."""
    return " ".join(np.array2string(np.asarray(value), threshold=64).split())
