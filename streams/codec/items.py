"""Items: records of the items topic to what the item index takes (flow step 5)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.fingerprint import fp64s
from models.item_columns import ItemRecord
from streams.batch import RecordBatch
from streams.codec.activities import Format
from streams.codec.avro_batch import AvroOpener
from streams.codec.embedding import quantise
from streams.codec.item_block import ItemBlockReader
from streams.codec.item_fields import NO_EMBEDDING, NOT_NUMBERS, ItemFields, from_avro, from_json, key_id
from streams.codec.json_batch import Document
from streams.codec.opened import Fetch, Integers
from streams.codec.schemas import BundledSchemas, Schemas
from streams.dead_letters import DeadLetter, Reason
from streams.limits import (
    CLOCK_AHEAD_MS_MAX,
    EMBEDDING_DIMENSIONS_MAX,
    EVENT_TIME_MS_MAX,
    EVENT_TIME_MS_MIN,
    ID_BYTES_MAX,
    ITEM_BYTES_MAX,
    ITEM_TOPICS_MAX,
    TITLE_CHARS_MAX,
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UTF8_BYTES_PER_CHAR_MAX = 4


@dataclass(frozen=True, slots=True)
class ItemChanges:
    """What a batch of the items topic comes to: the last change of each item, so the two are disjoint.

    `removed`: uint64[k], fp64 of the ids.
    """

    upserts: list[ItemRecord]
    removed: NDArray[np.uint64]


class Refused(Exception):  # noqa: N818
    """An item breaks a rule."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class ItemDecoder:
    """Decodes items: Avro, JSON or a Debezium change envelope; tombstone, `deleted` and op "d" remove."""

    def __init__(self, value_format: Format, schemas: Schemas | None = None) -> None:
        bundled = schemas or BundledSchemas()
        self._avro = AvroOpener("item", bundled) if value_format == "avro" else None
        self._blocks = ItemBlockReader(bundled) if value_format == "avro" else None

    def decode_batch(self, batch: RecordBatch) -> tuple[ItemChanges, list[DeadLetter]]:
        """As `decode`. Records that lie in a block are read at once, unless something is wrong with one."""
        records = None if self._blocks is None else self._blocks.records(batch)
        if records is not None:
            last = {record.item_id: record for record in records}
            return ItemChanges(list(last.values()), np.zeros(0, np.uint64)), []
        place = (batch.topic, batch.partition, batch.offsets, batch.timestamps_ms)
        return self.decode(*place, batch.keys, batch.values)

    def decode(
        self,
        topic: str,
        partition: int,
        offsets: Integers,
        timestamps_ms: Integers,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
    ) -> tuple[ItemChanges, list[DeadLetter]]:
        """The last change of each item, and one dead letter for each bad record.

        Raises SchemaPending when the registry has not told a schema id yet: fetch and try again.
        """
        fetch = Fetch(topic, partition, offsets, timestamps_ms, keys, values)
        there = [row for row, value in enumerate(values) if value is not None]
        rows = fetch.bearable(there, ITEM_BYTES_MAX)
        fields = from_json(fetch, rows) if self._avro is None else from_avro(self._avro.open(fetch, rows))
        changes = dict(_tombstones(fetch)) | _changes(fetch, fields)
        last: dict[str, ItemRecord | None] = {}
        for row in sorted(changes):
            item_id, record = changes[row]
            last[item_id] = record
        upserts = [record for record in last.values() if record is not None]
        removed = fp64s(item_id.encode() for item_id, record in last.items() if record is None)
        return ItemChanges(upserts, removed), fetch.dead_letters()


Change = tuple[str, ItemRecord | None]
"""An item's id, and what it is now; None: removed."""


def _tombstones(fetch: Fetch) -> list[tuple[int, Change]]:
    found: list[tuple[int, Change]] = []
    for row, value in enumerate(fetch.values):
        if value is None:
            try:
                found.append((row, (_checked_id("the key", _key_of(fetch, row)), None)))
            except Refused as error:
                fetch.refuse(row, error.reason, error.message)
    return found


def _changes(fetch: Fetch, fields: ItemFields) -> dict[int, Change]:
    """The change that each record makes, by row; records that break a rule are refused."""
    finite: NDArray[np.bool_] = np.all(np.isfinite(fields.vectors), axis=1)
    vectors = quantise(np.where(finite[:, None], fields.vectors, np.float32(0)))
    has: list[bool] = np.any(vectors, axis=1).tolist()
    dimensions, is_finite = fields.dimensions.tolist(), finite.tolist()
    found: dict[int, Change] = {}
    for at, (row, document) in enumerate(zip(fields.rows, fields.documents, strict=True)):
        try:
            item_id = _identity(fetch, row, document)
            if document.get("deleted"):
                found[row] = item_id, None
                continue
            _check_embedding(dimensions[at], is_finite[at])
            found[row] = item_id, _record(fetch, row, item_id, document, vectors[at] if has[at] else None)
        except Refused as error:
            fetch.refuse(row, error.reason, error.message)
    return found


def _identity(fetch: Fetch, row: int, document: Document) -> str:
    deleted = document.get("deleted")
    if type(deleted) not in (bool, type(None)):
        raise Refused(Reason.WRONG_SCHEMA, f"deleted is {deleted!r:.40}, not true or false")
    item_id = _checked_id("item_id", document.get("item_id"))
    key = _key_of(fetch, row)
    if key != item_id:
        raise Refused(
            Reason.KEY_MISMATCH, f"the key {key!r:.60} is not the item_id {item_id!r:.60}; make them equal"
        )
    return item_id


def _key_of(fetch: Fetch, row: int) -> str:
    key = fetch.keys[row]
    if key is None:
        raise Refused(Reason.NULL_KEY, "the record has no key; its key is the item_id")
    found = key_id(key)
    if found is None:
        raise Refused(Reason.NOT_UTF8, "the key is not UTF-8; its key is the item_id")
    return found


def _record(
    fetch: Fetch, row: int, item_id: str, document: Document, embedding: NDArray[np.int8] | None
) -> ItemRecord:
    title, kind = document.get("title"), document.get("kind")
    if type(title) not in (str, type(None)):
        raise Refused(Reason.WRONG_SCHEMA, f"title is {title!r:.40}, not a string")
    return ItemRecord(
        item_id,
        _checked_id("author", document.get("author")),
        _created_ms(document.get("created_at"), int(fetch.timestamps_ms[row])),
        _topics(document.get("topics")),
        embedding,
        title[:TITLE_CHARS_MAX] if title else None,
        None if kind is None else _checked_id("kind", kind),
    )


def _checked_id(name: str, value: object) -> str:
    if value is None:
        raise Refused(Reason.MISSING_FIELD, f"{name} is missing")
    if type(value) is not str:
        raise Refused(Reason.WRONG_SCHEMA, f"{name} is {value!r:.40}, not a string")
    if not value:
        raise Refused(Reason.EMPTY_ID, f"{name} is empty; leave it out or give it a value")
    if len(value) * _UTF8_BYTES_PER_CHAR_MAX > ID_BYTES_MAX and len(value.encode()) > ID_BYTES_MAX:
        size = len(value.encode())
        raise Refused(Reason.LONG_ID, f"{name} has {size} bytes, at most {ID_BYTES_MAX}; shorten or hash it")
    if not value.isprintable() and _CONTROL.search(value):
        raise Refused(Reason.BAD_ID, f"{name} contains a control character")
    return value


def _topics(value: object) -> tuple[str, ...]:
    """The first distinct ones."""
    if not value:
        return ()
    if type(value) is not list:
        raise Refused(Reason.WRONG_SCHEMA, f"topics is {value!r:.40}, not a list of strings")
    distinct = dict.fromkeys(_checked_id("a topic", topic) for topic in value)
    return tuple(distinct)[:ITEM_TOPICS_MAX]


def _created_ms(value: object, record_ms: int) -> int:
    if value is None:
        raise Refused(Reason.MISSING_FIELD, "created_at is missing")
    if type(value) is not int:
        raise Refused(Reason.WRONG_SCHEMA, f"created_at is {value!r:.40}, not a whole number of ms")
    if not EVENT_TIME_MS_MIN <= value <= EVENT_TIME_MS_MAX:
        raise Refused(
            Reason.ABSURD_TIME, f"created_at is {value}, not between 1990 and 2100; write milliseconds"
        )
    if value > record_ms + CLOCK_AHEAD_MS_MAX:
        raise Refused(
            Reason.CLOCK_AHEAD,
            f"created_at {value} is more than {CLOCK_AHEAD_MS_MAX // 60_000} min after the record timestamp "
            f"{record_ms}; set the clock",
        )
    if record_ms > EVENT_TIME_MS_MAX:
        raise Refused(
            Reason.ABSURD_TIME,
            f"the record timestamp is {record_ms}, after 2100; set the producer's clock, and send the item "
            "again",
        )
    return value


def _check_embedding(dimensions: int, finite: bool) -> None:
    if dimensions == NO_EMBEDDING:
        return
    if dimensions == NOT_NUMBERS:
        raise Refused(Reason.WRONG_SCHEMA, "embedding is not a list of numbers")
    if dimensions > EMBEDDING_DIMENSIONS_MAX:
        raise Refused(
            Reason.BAD_EMBEDDING,
            f"embedding has {dimensions} dimensions, at most {EMBEDDING_DIMENSIONS_MAX}; project it",
        )
    if not finite:
        raise Refused(Reason.BAD_EMBEDDING, "embedding contains NaN or infinity; leave it out instead")
