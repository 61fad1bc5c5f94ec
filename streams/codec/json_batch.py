"""JSON values to columns (flow step 1): one orjson call a record, then one pass a field.

Records are parsed one by one: joined into one text, two broken records could mend each other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from streams.block import Block
from streams.codec.frames import Whole
from streams.codec.json_block import JsonBlockReader
from streams.codec.opened import Fetch, Opened
from streams.codec.schemas import Kind, arrow_schema, reader_text
from streams.dead_letters import Reason

Document = dict[str, Any]

_WHOLE = pa.int64()
_ABSENT = type(None)
_I64_MIN, _I64_MAX = -(1 << 63), (1 << 63) - 1


class JsonOpener:
    """Opens JSON objects whose fields are those of a flat Avro schema; further fields are ignored."""

    def __init__(self, kind: Kind) -> None:
        self._schema = arrow_schema(reader_text(kind))
        self._blocks = JsonBlockReader(self._schema)
        required = {f["name"] for f in json.loads(reader_text(kind))["fields"] if "default" not in f}
        self._optional = {name: f'"{name}"'.encode() for name in self._schema.names if name not in required}

    def open_block(self, block: Block) -> Whole | None:
        """All records of a block at once, where all are good; else None."""
        return self._blocks.read(block, block.body())

    def open(self, fetch: Fetch, rows: Sequence[int]) -> Opened:
        """Values of the wrong type are refused and become null, so that columns stay aligned."""
        kept, documents = parse(fetch, rows)
        nowhere = self._absent(fetch.values)
        columns = [
            pa.nulls(len(kept), field.type)
            if field.name in nowhere
            else self._column(fetch, kept, documents, field)
            for field in self._schema
        ]
        return Opened(np.asarray(kept, np.int64), pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def _absent(self, values: Sequence[bytes | None]) -> set[str]:
        """Optional fields that no record can have: their names occur nowhere, and nothing is escaped."""
        text = b"".join(filter(None, values))
        if b"\\" in text:
            return set()
        return {name for name, quoted in self._optional.items() if quoted not in text}

    def _column(
        self, fetch: Fetch, rows: Sequence[int], documents: Sequence[Document], field: pa.Field
    ) -> pa.Array:
        name = field.name
        values = [document.get(name) for document in documents]
        if field.type == _WHOLE and not {int, _ABSENT}.issuperset(map(type, values)):
            values = _only(int, fetch, rows, name, values)
        try:
            return pa.array(values, field.type)
        except (pa.ArrowException, OverflowError):
            kind = int if field.type == _WHOLE else str
            return pa.array(_only(kind, fetch, rows, name, values), field.type)


def _only(
    kind: type[int | str], fetch: Fetch, rows: Sequence[int], name: str, values: list[Any]
) -> list[Any]:
    """Refuse the values that are not of the kind (or too large); they become null."""
    called = "a whole number of at most 64 bits" if kind is int else "a string"
    kept = list(values)
    for at, value in enumerate(values):
        good = type(value) is kind and (not isinstance(value, int) or _I64_MIN <= value <= _I64_MAX)
        if value is not None and not good:
            fetch.refuse(rows[at], Reason.WRONG_SCHEMA, f"{name} is {_shown(value)}, not {called}")
            kept[at] = None
    return kept


def parse(fetch: Fetch, rows: Sequence[int]) -> tuple[Sequence[int], list[Document]]:
    """The rows whose values are JSON objects, and the objects; the others are refused."""
    try:
        documents = list(map(orjson.loads, fetch.chosen(rows)))
    except orjson.JSONDecodeError:
        return _parse_each(fetch, rows)
    if {dict}.issuperset(map(type, documents)):
        return rows, documents
    return _parse_each(fetch, rows)


def _parse_each(fetch: Fetch, rows: Sequence[int]) -> tuple[Sequence[int], list[Document]]:
    kept: list[int] = []
    documents: list[Document] = []
    for row in rows:
        value = fetch.values[row] or b""
        try:
            document = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            fetch.refuse(row, *_diagnose(value, str(error)))
            continue
        if isinstance(document, dict):
            kept.append(row)
            documents.append(document)
        else:
            fetch.refuse(row, Reason.NOT_JSON, f"the value is {_shown(document)}, not a JSON object")
    return kept, documents


def _diagnose(value: bytes, message: str) -> tuple[Reason, str]:
    """Which kind of bad JSON it is; `message` is orjson's."""
    if value[:1] == b"\0":
        return (
            Reason.NOT_JSON,
            "it begins with a zero byte, as Avro does; write JSON, or set FEEDRANK_FORMAT",
        )
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        return Reason.NOT_UTF8, f"byte {error.start} is not UTF-8: {error.reason}; encode the text so"
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            return Reason.TRUNCATED, "the JSON ends in the middle; write it whole"
    except RecursionError:
        pass
    else:
        if text[end:].strip():
            return Reason.TRAILING_BYTES, "text follows the JSON object; write one object per message"
    return Reason.NOT_JSON, f"not JSON: {message}; write one JSON object"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
