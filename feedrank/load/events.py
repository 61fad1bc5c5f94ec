"""What a reader yields: items and activities in time order, and what it left out (before step 1)."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from streams.errors import ExitCode, OperatorError
from wire.names import ID_BYTES_MAX

SHOWN_MAX = 10
INT32_MAX, INT64_MAX = (1 << 31) - 1, (1 << 63) - 1
TOLD_LINES = 1_000
Told = Callable[[int, int], None]
"""Hears of a file's bytes: read by now, and of the whole file (packed ones, where it is)."""


@dataclass(frozen=True, slots=True)
class ItemEvent:
    """An item as it becomes known at `time_ms` (the record's timestamp)."""

    item_id: str
    author: str
    created_ms: int
    time_ms: int
    topics: tuple[str, ...] = ()
    title: str | None = None
    kind: str | None = None
    embedding: tuple[float, ...] | None = None
    deleted: bool = False

    @property
    def key(self) -> str:
        return self.item_id

    def record(self) -> dict[str, Any]:
        """The fields of the Avro schema `Item`."""
        return {
            "item_id": self.item_id,
            "author": self.author,
            "created_at": self.created_ms,
            "topics": list(self.topics),
            "embedding": None if self.embedding is None else list(self.embedding),
            "title": self.title,
            "kind": self.kind,
            "deleted": self.deleted,
        }


@dataclass(frozen=True, slots=True)
class ActivityEvent:
    """Who did what to which item at `time_ms`: event time and the record's timestamp."""

    activity_id: str
    actor: str
    verb: str
    object: str
    time_ms: int
    target: str | None = None
    dwell_ms: int | None = None
    position: int | None = None
    slate_id: str | None = None
    undone_verb: str | None = None
    undone_ms: int | None = None

    @property
    def key(self) -> str:
        return self.actor

    def record(self) -> dict[str, Any]:
        """The fields of the Avro schema `Activity`."""
        return {
            "activity_id": self.activity_id,
            "actor": self.actor,
            "verb": self.verb,
            "object": self.object,
            "target": self.target,
            "event_time": self.time_ms,
            "dwell_ms": self.dwell_ms,
            "position": self.position,
            "slate_id": self.slate_id,
            "undone_verb": self.undone_verb,
            "undone_event_time": self.undone_ms,
        }


@dataclass(frozen=True, slots=True)
class RawEvent:
    """A record of the activities topic as it was, good or not: bytes, key and Kafka's timestamp.

    `line`: where it was read, from 1 (0: not known). Only the broker knows whether it is too large.
    """

    key: str
    value: bytes
    time_ms: int
    line: int = field(default=0, compare=False)


Event = ItemEvent | ActivityEvent | RawEvent


class BadLine(ValueError):  # noqa: N818  # it is data, not a failure
    """A line that is not what the format says; the text tells what is wrong with it."""


@dataclass(slots=True)
class Tally:
    """What a reader left out: bad lines (the first few with their number) and, by reason, good lines that
    have no place in feedrank. With `strict` the first bad line raises OperatorError (bad input)."""

    strict: bool = False
    bad: int = 0
    shown: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def skip(self, reason: str) -> None:
        """A good line that is left out on purpose."""
        self.skipped[reason] += 1

    @contextmanager
    def line(self, path: Path, number: int) -> Iterator[None]:
        """Count what goes wrong with this line (from 1) instead of stopping, unless strict."""
        try:
            yield
        except (BadLine, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            message = f"{path} line {number}: {what}"
            if self.strict:
                advice = "correct it, or leave out --strict to pass over bad lines"
                raise OperatorError(f"{message}; {advice}", ExitCode.BAD_INPUT) from error
            self.bad += 1
            if len(self.shown) < SHOWN_MAX:
                self.shown.append(message)


@contextmanager
def opened(path: Path, told: Told | None = None) -> Iterator[Iterator[tuple[int, str]]]:
    """Lines with their numbers from 1, of a plain or gzip file (by its first bytes). `told` hears now and
    then how many bytes of the file were read, and how many it has.

    Raises OperatorError (bad input) when the file can't be read or is damaged.
    """
    try:
        with path.open("rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            unpacked = gzip.GzipFile(fileobj=file) if packed else file
            with TextIOWrapper(unpacked, encoding="utf-8", errors="surrogateescape") as lines:
                yield _numbered(lines, file, told)
    except (OSError, EOFError, zlib.error) as error:
        what = f"cannot read {path}: {error}"
        raise OperatorError(f"{what}; check the path, or fetch the file again", ExitCode.BAD_INPUT) from error


def _numbered(lines: TextIO, file: BufferedReader, told: Told | None) -> Iterator[tuple[int, str]]:
    size = os.fstat(file.fileno()).st_size
    told = told if file.seekable() else None  # of a pipe nobody knows how far it is
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, line
        if told and number % TOLD_LINES == 0:
            told(file.tell(), size)
    if told:
        told(size, size)


def json_object(line: str) -> dict[str, Any]:
    """The JSON object of one line. Raises BadLine."""
    utf8(line, "the line")
    try:
        found = json.loads(line)
    except ValueError as error:
        raise BadLine(f"not JSON ({error})") from error
    except RecursionError as error:
        raise BadLine("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise BadLine("not a JSON object")
    return found


def text_of(line: dict[str, Any], name: str) -> str:
    """A field that is an id: text of 1 to 128 bytes of UTF-8. Raises BadLine or KeyError."""
    value = line[name]
    if not isinstance(value, str):
        raise BadLine(f"{name} is not text: {value!r}")
    return checked_id(value, name)


def checked_id(value: str, name: str) -> str:
    """`value` itself. Raises BadLine when it is not 1 to 128 bytes of UTF-8."""
    size = len(utf8(value, name).encode())
    if not 1 <= size <= ID_BYTES_MAX:
        raise BadLine(f"{name} has {size} bytes, not 1 to {ID_BYTES_MAX}")
    return value


def utf8(value: str, name: str) -> str:
    """`value` itself. Raises BadLine when it has no UTF-8 form (lone surrogates)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadLine(f"{name} is not UTF-8") from None
    return value


def whole_of(line: dict[str, Any], name: str, most: int = INT64_MAX) -> int:
    """A field that is a whole number from 0 to `most`. Raises BadLine or KeyError."""
    value = line[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadLine(f"{name} is not a whole number >= 0: {value!r}")
    return bounded(value, name, most)


def bounded(value: int, name: str, most: int) -> int:
    """`value` itself. Raises BadLine when it is not within 0 to `most`."""
    if not 0 <= value <= most:
        raise BadLine(f"{name} is not a whole number from 0 to {most:,}: {value}")
    return value


def milliseconds(line: dict[str, Any], name: str) -> int:
    """A field that is whole seconds, in ms. Raises BadLine or KeyError."""
    return whole_of(line, name, INT64_MAX // 1_000) * 1_000
