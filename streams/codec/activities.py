"""Activities: one partition's fetch to columns and dead letters (flow step 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Literal

import numpy as np
import pyarrow as pa

from models.columns import ActivityColumns
from models.verbs import Role, VerbTable
from streams.batch import RecordBatch
from streams.block import Block, BlockBatch
from streams.codec.avro_batch import AvroOpener
from streams.codec.json_batch import JsonOpener
from streams.codec.opened import Fetch, Integers, Opener
from streams.codec.rules import ABSENT, RULES, TARGETS, UNKNOWN, Unchecked
from streams.codec.schemas import BundledSchemas, Schemas
from streams.codec.text import I64, Text, numbers
from streams.dead_letters import DeadLetter
from streams.limits import ACTIVITY_BYTES_MAX

Format = Literal["avro", "json"]
UNSURE_RECORDS_MAX = {"avro": 250, "json": 1_000}
"""Records that may be bad and are decoded in one hold of the loop: what is wrong with each takes a look at it
alone, up to 60 us (JSON 10)."""
AT_ONCE_RECORDS_MIN = {"avro": 250, "json": 1_000}
"""Fewer take less time one by one: 100 of Avro 0.4 ms instead of 0.55, of JSON 0.4 instead of 0.75."""

_TEXTS = ("activity_id", "actor", "verb", "object", "target", "slate_id", "undone_verb")
_NUMBERS = ("event_time", "dwell_ms", "position", "undone_event_time")


class Decoder:
    """Decodes activities. One instance serves all partitions and keeps no state between batches.

    `partitions`: how many the topic has (for `misrouted`). `schemas`: None for the
    bundled one, else a Registry.
    """

    def __init__(
        self, value_format: Format, verbs: VerbTable, partitions: int, schemas: Schemas | None = None
    ) -> None:
        self._verbs = verbs
        self._partitions = partitions
        self._unsure_max = UNSURE_RECORDS_MAX[value_format]
        self._at_once_min = AT_ONCE_RECORDS_MIN[value_format]
        self._opener: Opener = (
            JsonOpener("activity")
            if value_format == "json"
            else AvroOpener("activity", schemas or BundledSchemas())
        )

    def decode_batch(self, batch: RecordBatch) -> tuple[ActivityColumns, list[DeadLetter]]:
        """As `decode`. Records that lie in a block are read at once, unless something is wrong with one."""
        columns = self._read_at_once(batch)
        if columns is not None:
            return columns, []
        return self.decode(
            batch.topic, batch.partition, batch.offsets, batch.timestamps_ms, batch.keys, batch.values
        )

    def records_at_once(self, batch: RecordBatch) -> int:
        """How many of a batch's records to decode in one hold of the loop: all, if nothing is wrong with any.

        Raises SchemaPending.
        """
        whole = len(batch) <= self._unsure_max or self._read_at_once(batch) is not None
        return max(len(batch), 1) if whole else self._unsure_max

    def _read_at_once(self, batch: RecordBatch) -> ActivityColumns | None:
        """The columns of records that lie in a large block of good ones."""
        if not isinstance(batch, BlockBatch) or batch.block.count < self._at_once_min:
            return None
        if self not in batch.block.made:
            batch.block.made[self] = self._all_good(batch.block, batch.partition)
        columns: ActivityColumns | None = batch.block.made[self]
        return None if columns is None else columns.cut(batch.first, batch.last)

    def _all_good(self, block: Block, partition: int) -> ActivityColumns | None:
        """The columns of a whole block; None when any of its records breaks a rule."""
        whole = self._opener.open_block(block)
        if whole is None or whole.value_bytes_max > ACTIVITY_BYTES_MAX:
            return None
        if not whole.keys.equals(whole.table.column("actor")):
            return None
        unchecked = self._unchecked(partition, whole.table, whole.record_ms)
        for rule in RULES:
            if any(records.any() for _, records, _ in rule(unchecked)):
                return None
        return _columns(block.offsets, unchecked)

    def decode(
        self,
        topic: str,
        partition: int,
        offsets: Integers,
        timestamps_ms: Integers,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
    ) -> tuple[ActivityColumns, list[DeadLetter]]:
        """The good records in offset order, and one dead letter for each bad one.

        Raises SchemaPending when the registry has not told a schema id yet: fetch and try again.
        """
        fetch = Fetch(topic, partition, offsets, timestamps_ms, keys, values)
        opened = self._opener.open(fetch, fetch.present(ACTIVITY_BYTES_MAX))
        rows = opened.rows
        whole = len(rows) == len(fetch.values)
        its_keys = list(fetch.keys) if whole else [fetch.keys[row] for row in rows.tolist()]
        record_ms = np.asarray(fetch.timestamps_ms, np.int64)[rows]
        unchecked = self._unchecked(partition, opened.table, record_ms, its_keys)
        for rule in RULES:
            for reason, records, explain in rule(unchecked):
                if records.any():
                    for i in np.flatnonzero(records).tolist():
                        fetch.refuse(int(rows[i]), reason, explain(i))
        columns = _columns(np.asarray(fetch.offsets, np.int64)[rows], unchecked)
        if fetch.refused:
            good = np.array([row not in fetch.refused for row in rows.tolist()], np.bool_)
            columns = _take(columns, np.flatnonzero(good))
        return columns, fetch.dead_letters()

    def _unchecked(
        self, partition: int, table: pa.RecordBatch, record_ms: I64, keys: list[bytes | None] | None = None
    ) -> Unchecked:
        """`keys`: None where they are known to be the actors."""
        texts = {name: Text(table.column(name)) for name in _TEXTS}
        values = {name: numbers(table.column(name)) for name in _NUMBERS}
        code = self._verbs.code
        verb = texts["verb"].codes(code, UNKNOWN, ABSENT)
        return Unchecked(
            partition=partition,
            partitions=self._partitions,
            verbs=self._verbs,
            keys=texts["actor"].values if keys is None else keys,
            record_ms=record_ms,
            texts=texts,
            verb=verb,
            undo=(verb >= 0) & (self._verbs.role[verb] == Role.UNDO),
            target=texts["target"].codes(TARGETS, UNKNOWN, TARGETS["author"]),
            undone_verb=texts["undone_verb"].codes(code, UNKNOWN, ABSENT),
            event_ms=values["event_time"][0],
            undone_ms=values["undone_event_time"][0],
            dwell_ms=values["dwell_ms"][0],
            position=values["position"][0],
            absent={name: number[1] for name, number in values.items()},
        )


def _columns(offsets: I64, a: Unchecked) -> ActivityColumns:
    """The columns of all records. What only an undo has is absent elsewhere."""
    undo = a.undo
    position = a.position
    if a.absent["position"] is not None:
        position = np.where(a.absent["position"], -1, position)
    return ActivityColumns(
        keys=a.keys,  # type: ignore[arg-type]  # a null key is refused
        offset=offsets,
        record_ms=a.record_ms,
        event_ms=a.event_ms,
        activity_fp=a.texts["activity_id"].fingerprints(),
        object_fp=a.texts["object"].fingerprints(),
        verb=a.verb,
        target=a.target.astype(np.int8),
        dwell_ms=a.dwell_ms,
        position=position.astype(np.int16),
        slate_fp=a.texts["slate_id"].fingerprints(),
        undone_verb=np.where(undo, a.undone_verb, np.int16(-1)),
        undone_ms=np.where(undo, a.undone_ms, 0),
    )


def _take(columns: ActivityColumns, good: I64) -> ActivityColumns:
    keys = [columns.keys[i] for i in good.tolist()]
    return ActivityColumns(keys, *(getattr(columns, f.name)[good] for f in fields(columns)[1:]))
