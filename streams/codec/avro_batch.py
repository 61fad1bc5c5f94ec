"""Avro values to columns, a batch at a time through a native reader (flow steps 1 and 5).

pyruhvro decodes a whole batch or nothing, does not look at UTF-8, and ignores bytes after a record.
So: a batch that fails is halved until the bad records stand alone; text is validated by Arrow; lengths are
compared with the shortest encoding (`avro_length`); and whatever is suspicious is judged alone (`avro_walk`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyruhvro
from numpy.typing import NDArray

from streams.block import Block
from streams.codec.avro_block import BlockReader, first_head
from streams.codec.avro_length import Unsure, encoded_lengths, shortest_total
from streams.codec.avro_walk import Malformed, Walk
from streams.codec.frames import Whole
from streams.codec.opened import I64, Fetch, Opened
from streams.codec.schemas import (
    HEADER_BYTES,
    ID_FIELD,
    MAGIC_FIELD,
    Kind,
    SchemaMismatch,
    SchemaPending,
    Schemas,
    SchemaUnknown,
    WriterSchema,
    arrow_schema,
    is_native_failure,
    reader_text,
)
from streams.dead_letters import Reason

MAGIC = 0

_UNREADABLE = Malformed(
    Reason.WRONG_SCHEMA, "the native Avro reader refuses the record; is it of the schema that it names?"
)


class AvroOpener:
    """Opens values in Confluent's wire format."""

    def __init__(self, kind: Kind, schemas: Schemas) -> None:
        self._kind = kind
        self._schemas = schemas
        schema = arrow_schema(reader_text(kind))
        self._empty = pa.RecordBatch.from_arrays([pa.nulls(0, one.type) for one in schema], schema=schema)
        self._walks: dict[str, Walk] = {}
        self._readers: dict[str, BlockReader] = {}

    def open_block(self, block: Block) -> Whole | None:
        """All records of a block at once, where all are whole and of one schema; else None.

        Raises SchemaPending when the first one's schema id is not known yet.
        """
        body = block.body()
        try:
            head = first_head(body)
        except IndexError:
            return None
        writer = self._writer(head)
        if not isinstance(writer, WriterSchema):
            return None
        reader = self._readers.get(writer.native)
        if reader is None:
            reader = self._readers[writer.native] = BlockReader(writer)
        return reader.read(block, body, head[1:])

    def open(self, fetch: Fetch, rows: Sequence[int]) -> Opened:
        """Raises SchemaPending when a schema id is not known yet (nothing is refused then)."""
        whole = self._open_whole(fetch, rows)
        if whole is not None:
            return whole
        parts = [self._open_group(fetch, writer, of) for writer, of in self._by_schema(fetch, rows)]
        if len(parts) == 1:
            return parts[0]
        every = np.concatenate([part.rows for part in parts] or [np.zeros(0, np.int64)])
        order = np.argsort(every, kind="stable")
        table = pa.concat_batches([self._empty, *(part.table for part in parts)])
        return Opened(every[order], table.take(pa.array(order)))

    def _open_whole(self, fetch: Fetch, rows: Sequence[int]) -> Opened | None:
        """All rows at once, where all are good and of the first one's schema; else None."""
        values = fetch.chosen(rows)
        try:
            writer = self._writer(values[0][:HEADER_BYTES]) if values else None
        except SchemaPending:
            return None  # the other records may name more ids to ask for
        if not isinstance(writer, WriterSchema):
            return None
        try:
            written = pyruhvro.deserialize_array(values, writer.native)
            table = _checked(writer, written)
        except BaseException as error:
            if is_native_failure(error):
                return None
            raise
        if not _one_schema(written) or len(_suspects(writer, written, values)):
            return None
        return Opened(np.asarray(rows, np.int64), table)

    def _by_schema(self, fetch: Fetch, rows: Sequence[int]) -> list[tuple[WriterSchema, I64]]:
        """Rows by writer schema; those without a usable header are refused."""
        found: dict[bytes, list[int]] = {}
        for row, value in zip(rows, fetch.chosen(rows), strict=True):
            found.setdefault(value[:HEADER_BYTES], []).append(row)
        writers = self._writers(found)
        groups = []
        for head, of in found.items():
            writer = writers[head]
            if isinstance(writer, WriterSchema):
                groups.append((writer, np.asarray(of, np.int64)))
                continue
            for row in of:
                fetch.refuse(row, *writer)
        return groups

    def _writers(self, heads: Iterable[bytes]) -> dict[bytes, WriterSchema | tuple[Reason, str]]:
        """The schema of each header, or why there is none. All pending ids are asked for at once."""
        found: dict[bytes, WriterSchema | tuple[Reason, str]] = {}
        pending: set[int] = set()
        for head in heads:
            try:
                found[head] = self._writer(head)
            except SchemaPending as error:
                pending |= error.schema_ids
        if pending:
            raise SchemaPending(frozenset(pending))
        return found

    def _writer(self, head: bytes) -> WriterSchema | tuple[Reason, str]:
        if len(head) < HEADER_BYTES:
            return Reason.TRUNCATED, f"{len(head)} bytes are less than the {HEADER_BYTES} of the header"
        if head[0] != MAGIC:
            return (
                Reason.BAD_MAGIC,
                f"the first byte is {head[0]}, not 0: not Confluent's wire format; write a zero byte "
                "and the schema id first, or set FEEDRANK_FORMAT=json",
            )
        schema_id = int.from_bytes(head[1:], "big")
        try:
            return self._schemas.writer(schema_id, self._kind)
        except SchemaUnknown as error:
            return Reason.UNKNOWN_SCHEMA, str(error)
        except SchemaMismatch as error:
            return Reason.WRONG_SCHEMA, f"schema {schema_id}: {error}"

    def _open_group(self, fetch: Fetch, writer: WriterSchema, rows: I64) -> Opened:
        """Rows of one schema, the bad ones among them refused: undecodable, bad text, too long."""
        values = fetch.chosen(rows.tolist())
        bad = _failing(0, len(values), lambda a, b: pyruhvro.deserialize_array(values[a:b], writer.native))
        good = self._refuse(fetch, writer, rows, bad)
        values = fetch.chosen(good.tolist())
        written = pyruhvro.deserialize_array(values, writer.native)
        bad = _failing(0, len(values), lambda a, b: _checked(writer, written.slice(a, b - a)))
        bad += [at for at in _suspects(writer, written, values).tolist() if self._judge(writer, values[at])]
        kept = self._refuse(fetch, writer, good, sorted(set(bad)))
        written = written.filter(pa.array(np.isin(good, kept)))
        return Opened(kept, _checked(writer, written) if len(kept) else self._empty)

    def _refuse(self, fetch: Fetch, writer: WriterSchema, rows: I64, bad: Sequence[int]) -> I64:
        """Refuse rows[bad], each with what is wrong with it; the rows that are left."""
        for at in bad:
            row = int(rows[at])
            verdict = self._judge(writer, fetch.chosen([row])[0]) or _UNREADABLE
            fetch.refuse(row, verdict.reason, verdict.message)
        return np.delete(rows, bad)

    def _judge(self, writer: WriterSchema, value: bytes) -> Malformed | None:
        walk = self._walks.get(writer.native)
        if walk is None:
            walk = self._walks[writer.native] = Walk(writer.node)
        try:
            walk.check(value[HEADER_BYTES:])
        except Malformed as verdict:
            return verdict
        return None


def _failing(start: int, stop: int, attempt: Callable[[int, int], object]) -> list[int]:
    """Which single records fail, where a run fails when one of its records does: found by halving."""
    try:
        if start < stop:
            attempt(start, stop)
        return []
    except BaseException as error:
        if not is_native_failure(error):
            raise
    if stop - start == 1:
        return [start]
    half = (start + stop) // 2
    return _failing(start, half, attempt) + _failing(half, stop, attempt)


def _checked(writer: WriterSchema, written: pa.RecordBatch) -> pa.RecordBatch:
    """The reader's columns, with UTF-8 where it must be. Raises pa.ArrowInvalid."""
    table = writer.resolve(written)
    table.validate(full=True)
    return table


def _one_schema(written: pa.RecordBatch) -> bool:
    """Whether all records have the header that the first one has."""
    ids = _words(written, ID_FIELD, np.uint32)
    return not _words(written, MAGIC_FIELD, np.int64).any() and bool((ids == ids[0]).all())


def _words(written: pa.RecordBatch, name: str, dtype: type[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    return np.frombuffer(written.column(name).buffers()[1], dtype, len(written))


def _suspects(writer: WriterSchema, written: pa.RecordBatch, values: Sequence[bytes]) -> I64:
    """The records that are not as long as their shortest encoding."""
    actual = np.fromiter(map(len, values), np.int64, len(values))
    if actual.sum() == shortest_total(writer.measured, written):
        return actual[:0]
    try:
        expected = encoded_lengths(writer.measured, written)
    except Unsure:
        return np.arange(len(values))
    return np.flatnonzero(expected != actual)
