"""The fields of items before the rules, from Avro or JSON, enveloped or not (flow step 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from streams.codec.json_batch import Document, parse
from streams.codec.opened import Fetch, Opened
from streams.codec.text import absent, list_lengths, plain
from streams.dead_letters import Reason
from streams.limits import EMBEDDING_DIMENSIONS_MAX

NO_EMBEDDING, NOT_NUMBERS = -1, -2


@dataclass(frozen=True, slots=True)
class ItemFields:
    """n items as they came, not yet checked: `documents` without the embedding, which is in `vectors`
    float32[n, 64] with `dimensions` int64[n] (NO_EMBEDDING, NOT_NUMBERS)."""

    rows: Sequence[int]
    documents: list[Document]
    vectors: NDArray[np.float32]
    dimensions: NDArray[np.int64]


def from_avro(opened: Opened) -> ItemFields:
    """The table's columns, as Python values but for the embedding."""
    table = opened.table
    matrix, counts = vectors(table.column("embedding"))
    rest = table.drop_columns(["embedding"])
    names = rest.schema.names
    columns = [column.to_pylist() for column in rest.columns]
    documents = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return ItemFields(opened.rows.tolist(), documents, matrix, counts)


def vectors(lists: pa.Array) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """float32[n, 64], padded with zeros (longer ones cut; a null in them is NaN), and how long each list is
    (NO_EMBEDDING: there is none)."""
    counts, flat = list_lengths(lists, NO_EMBEDDING), lists.flatten()
    values, missing = plain(flat).astype(np.float32), absent(flat)
    if missing is not None:
        values[missing] = np.nan
    return _matrix(values, counts), counts


def from_json(fetch: Fetch, rows: Sequence[int]) -> ItemFields:
    """JSON objects: the item, or a Debezium change envelope around it."""
    kept: list[int] = []
    documents: list[Document] = []
    for row, document in zip(*parse(fetch, rows), strict=True):
        item = _unwrap(document)
        if item is None:
            fetch.refuse(
                row,
                Reason.BAD_ENVELOPE,
                f"a change envelope with op {document.get('op', 'missing')!r} and no row in it",
            )
            continue
        kept.append(row)
        documents.append(item)
    counts = np.array([_count(document.get("embedding")) for document in documents], np.int64)
    flat: list[float] = []
    for document, count in zip(documents, counts.tolist(), strict=True):
        if count > 0:
            flat += document["embedding"]
    with np.errstate(over="ignore"):  # more than binary32 holds becomes infinite and is refused
        values = np.array(flat, np.float64).astype(np.float32)
    return ItemFields(kept, documents, _matrix(values, counts), counts)


def _count(embedding: object) -> int:
    if embedding is None:
        return NO_EMBEDDING
    if not isinstance(embedding, list) or not {int, float}.issuperset(map(type, embedding)):
        return NOT_NUMBERS
    return len(embedding)


def _matrix(values: NDArray[np.float32], counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """float32[n, 64]: the vectors, padded with zeros; of longer ones (refused later) the beginning."""
    matrix = np.zeros((len(counts), EMBEDDING_DIMENSIONS_MAX), np.float32)
    sizes = np.maximum(counts, 0)
    row = np.repeat(np.arange(len(counts)), sizes)
    column = np.arange(len(values)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    fits = column < EMBEDDING_DIMENSIONS_MAX
    matrix[row[fits], column[fits]] = values[fits]
    return matrix


def _unwrap(document: Document) -> Document | None:
    """The item in a change envelope (with or without Connect's schema around it); else the document."""
    payload = document.get("payload")
    if isinstance(payload, dict):
        document = payload
    if "op" not in document or "item_id" in document:
        return document
    if document["op"] == "d":
        before = document.get("before")
        return {**before, "deleted": True} if isinstance(before, dict) else None
    after = document.get("after")
    return after if isinstance(after, dict) else None


def key_id(key: bytes) -> str | None:
    """The item id that a key names: the key's text, or `item_id` in the JSON object that Debezium writes.

    None when it is not UTF-8.
    """
    if key[:1] == b"{":
        try:
            document: Any = orjson.loads(key)
        except orjson.JSONDecodeError:
            document = None
        if isinstance(document, dict):
            inner = document.get("payload")
            found = (inner if isinstance(inner, dict) else document).get("item_id")
            if isinstance(found, str):
                return found
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError:
        return None
