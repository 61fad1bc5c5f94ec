"""Files to records (before step 1): JSON lines as `feedrank load jsonl` reads them, Avro containers, Parquet.

What a file holds is told by its name's end. Avro and Parquet files hold activities or items, which is told by
their columns, under the names of the topics' schemas; schemas of before are read as the topics' are.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Set
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
from fastavro.read import SchemaResolutionError

from feedrank.load import jsonl
from feedrank.load.events import ActivityEvent, ItemEvent, RawEvent, Tally
from streams.codec import encode_activity, encode_item
from streams.codec.schemas import reader_text
from streams.errors import ExitCode, OperatorError
from streams.registry import Registry
from topologies.replay.spool import Record
from wire.names import ACTIVITIES, ITEMS

Kind = Literal["jsonl", "avro", "parquet"]
Format = Literal["avro", "json"]
ENDINGS: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".avro": "avro",
    ".parquet": "parquet",
}
KINDS: tuple[tuple[str, Literal["activity", "item"]], ...] = ((ACTIVITIES, "activity"), (ITEMS, "item"))
PARQUET_ROWS = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_TIMES = ("event_time", "undone_event_time", "created_at")


def kind_of(path: Path) -> Kind:
    """By the end of the name, `.gz` left out. Raises OperatorError (bad input)."""
    ending = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    kind = ENDINGS.get(ending.lower())
    if kind is None or not path.is_file():
        why = f"its name ends in none of {', '.join(ENDINGS)}"
        if not path.is_file():
            why = "a directory, no file" if path.is_dir() else "no such file"
        raise OperatorError(f"{path}: {why}; correct the path or rename the file", ExitCode.BAD_INPUT)
    return kind


def records(
    paths: Iterable[Path], tally: Tally, value_format: Format = "avro", registry: Registry | None = None
) -> Iterator[Record]:
    """Items and activities of all files, in the order of the files and within each. `registry`: knows older
    names of fields of Avro files.

    Raises OperatorError (bad input) for a file that is cut off or damaged.
    """
    for path in paths:
        kind = kind_of(path)
        if kind == "jsonl":
            yield from _of_lines(path, tally, value_format)
        else:
            rows = _of_avro(path, registry) if kind == "avro" else _of_parquet(path)
            yield from (_of_fields(path, row, value_format) for row in rows)


def count(path: Path) -> int:
    """How many records a file has, without decoding them. Raises OperatorError (bad input)."""
    kind = kind_of(path)
    with _readable(path):
        if kind == "parquet":
            return int(pq.ParquetFile(path).metadata.num_rows)
        if kind == "avro":
            with path.open("rb") as file:
                return sum(block.num_records for block in fastavro.block_reader(file))
        with gzip.open(path) if _gzipped(path) else path.open("rb") as lines:
            return _count_lines(path, lines)


def _count_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Lines that are not empty. Raises OperatorError where the last one was cut off."""
    number, count, line = 0, 0, b"\n"
    for line in lines:
        number += 1
        count += bool(line.strip())
    if not line.endswith(b"\n"):
        try:
            json.loads(line)
        except ValueError as error:
            raise OperatorError(
                f"{path} is cut off in its last line, {number}: fetch it again, or delete that line. Nothing "
                "of it was applied",
                ExitCode.BAD_INPUT,
            ) from error
    return count


def _gzipped(path: Path) -> bool:
    with path.open("rb") as probe:
        return probe.read(2) == b"\x1f\x8b"


class _readable:  # noqa: N801
    """Turns what a damaged file raises into a message."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if isinstance(error, SchemaResolutionError):
            raise OperatorError(
                f"{self._path}: its schema does not resolve to the one of docs/wire.md ({str(error)[:200]}); "
                "write its fields with the types that stand there",
                ExitCode.BAD_INPUT,
            ) from error
        if isinstance(error, (OSError, EOFError, ValueError, pa.ArrowException, StopIteration)):
            raise OperatorError(
                f"{self._path} is damaged or cut off: {error or type(error).__name__}; fetch it again. "
                "Nothing of it was applied",
                ExitCode.BAD_INPUT,
            ) from error


def _of_lines(path: Path, tally: Tally, value_format: Format) -> Iterator[Record]:
    for event in jsonl.events(path, tally):
        if isinstance(event, RawEvent):
            yield Record(ACTIVITIES, event.key.encode(), event.value, event.time_ms)
        elif isinstance(event, ItemEvent):
            yield Record(ITEMS, event.key.encode(), encode_item(event.record(), value_format), event.time_ms)
        else:
            assert isinstance(event, ActivityEvent)
            value = encode_activity(event.record(), value_format)
            yield Record(ACTIVITIES, event.key.encode(), value, event.time_ms)


def _of_avro(path: Path, registry: Registry | None) -> Iterator[Mapping[str, Any]]:
    """Rows of an Avro container, resolved to the bundled schema by Avro's rules.

    Raises OperatorError (bad input) for a schema that is neither an activity's nor an item's.
    """
    with _readable(path), path.open("rb") as file:
        written = {field["name"] for field in fastavro.reader(file).writer_schema["fields"]}
    readers = [reader_text(kind) if registry is None else registry.reader(of, kind) for of, kind in KINDS]
    found = [reader for reader in readers if not _lacking(reader, written)]
    if not found:
        lacking = ", ".join(_lacking(readers[0], written))
        raise OperatorError(
            f"{path} has no fields of an activity (it lacks {lacking}) and none of an item; name them as "
            "docs/wire.md does, or register a schema whose aliases tell the older names",
            ExitCode.BAD_INPUT,
        )
    schema = fastavro.parse_schema(json.loads(found[0]))
    with path.open("rb") as file:
        rows = _guarded(path, lambda: fastavro.reader(file, reader_schema=schema))
        yield from rows


def _lacking(reader: str, written: Set[str]) -> list[str]:
    """Required fields of a reader's schema that a writer's has under none of their names."""
    fields = json.loads(reader)["fields"]
    required = [field for field in fields if "default" not in field]
    return [one["name"] for one in required if written.isdisjoint({one["name"], *one.get("aliases", ())})]


def _of_parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    def rows() -> Iterator[Mapping[str, Any]]:
        for batch in pq.ParquetFile(path).iter_batches(PARQUET_ROWS):
            yield from batch.to_pylist()

    yield from _guarded(path, rows)


def _guarded(path: Path, start: Any) -> Iterator[Mapping[str, Any]]:
    with _readable(path):
        rows = iter(start())
    while True:
        with _readable(path):
            row = next(rows, None)
        if row is None:
            return
        yield row


def _of_fields(path: Path, row: Mapping[str, Any], value_format: Format) -> Record:
    """One row; times may be milliseconds or timestamps. Raises OperatorError (bad input)."""
    fields = {name: value for name, value in row.items() if value is not None}
    for name in _TIMES:
        if isinstance(fields.get(name), datetime):
            fields[name] = _ms(fields[name])
    try:
        if "actor" in fields:
            value = encode_activity(fields, value_format)
            return Record(ACTIVITIES, fields["actor"].encode(), value, fields["event_time"])
        key = fields["item_id"].encode()
        return Record(ITEMS, key, encode_item(fields, value_format), fields["created_at"])
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise OperatorError(
            f"{path}: a row is no activity and no item of docs/wire.md ({error}); name its columns so",
            ExitCode.BAD_INPUT,
        ) from error


def _ms(at: datetime) -> int:
    """Milliseconds since 1970; a time without a zone is UTC, as Parquet and Avro have it."""
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // _MS
