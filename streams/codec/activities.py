"""Activities: one partition's fetch to columns and dead letters (flow step 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Literal

import numpy as np

from models.columns import ActivityColumns
from models.verbs import Role, VerbTable
from streams.codec.avro_batch import AvroOpener
from streams.codec.json_batch import JsonOpener
from streams.codec.opened import Fetch, Integers, Opened, Opener
from streams.codec.rules import ABSENT, RULES, TARGETS, UNKNOWN, Unchecked
from streams.codec.schemas import BundledSchemas, Schemas
from streams.codec.text import I64, Text, numbers
from streams.dead_letters import DeadLetter
from streams.limits import ACTIVITY_BYTES_MAX

Format = Literal["avro", "json"]

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
        self._opener: Opener = (
            JsonOpener("activity")
            if value_format == "json"
            else AvroOpener("activity", schemas or BundledSchemas())
        )

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
        unchecked = self._unchecked(fetch, opened)
        for rule in RULES:
            for reason, records, explain in rule(unchecked):
                if records.any():
                    for i in np.flatnonzero(records).tolist():
                        fetch.refuse(int(opened.rows[i]), reason, explain(i))
        return _good(fetch, opened, unchecked), fetch.dead_letters()

    def _unchecked(self, fetch: Fetch, opened: Opened) -> Unchecked:
        table, rows = opened.table, opened.rows
        texts = {name: Text(table.column(name)) for name in _TEXTS}
        values = {name: numbers(table.column(name)) for name in _NUMBERS}
        code = self._verbs.code
        verb = texts["verb"].codes(code, UNKNOWN, ABSENT)
        whole = len(rows) == len(fetch.values)
        return Unchecked(
            partition=fetch.partition,
            partitions=self._partitions,
            verbs=self._verbs,
            keys=list(fetch.keys) if whole else [fetch.keys[row] for row in rows.tolist()],
            record_ms=np.asarray(fetch.timestamps_ms, np.int64)[rows],
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


def _good(fetch: Fetch, opened: Opened, a: Unchecked) -> ActivityColumns:
    """The columns of the records that kept every rule. What only an undo has is absent elsewhere."""
    undo = a.undo
    position = a.position
    if a.absent["position"] is not None:
        position = np.where(a.absent["position"], -1, position)
    columns = ActivityColumns(
        keys=a.keys,  # type: ignore[arg-type]  # a null key is refused
        offset=np.asarray(fetch.offsets, np.int64)[opened.rows],
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
    if not fetch.refused:
        return columns
    good = np.array([row not in fetch.refused for row in opened.rows.tolist()], np.bool_)
    return _take(columns, np.flatnonzero(good))


def _take(columns: ActivityColumns, good: I64) -> ActivityColumns:
    keys = [columns.keys[i] for i in good.tolist()]
    return ActivityColumns(keys, *(getattr(columns, f.name)[good] for f in fields(columns)[1:]))
