"""From values to a table of fields, and the list of records refused on the way (flow steps 1 and 5).

Avro and JSON end in the same table, so that everything after it is the same for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streams.block import Block
from streams.codec.frames import Whole
from streams.dead_letters import DeadLetter, Reason

I64 = NDArray[np.int64]
Integers = Sequence[int] | I64


@dataclass(slots=True)
class Fetch:
    """One fetch of one partition, and what was refused of it: the first reason of each record stays."""

    topic: str
    partition: int
    offsets: Integers
    timestamps_ms: Integers
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    refused: dict[int, tuple[Reason, str]] = field(default_factory=dict)

    def refuse(self, row: int, reason: Reason, message: str) -> None:
        self.refused.setdefault(int(row), (reason, message))

    def present(self, bytes_max: int) -> Sequence[int]:
        """Rows with a value of a bearable size; the others are refused."""
        rows: Sequence[int] = range(len(self.values))
        if None in self.values:
            for row in rows:
                if self.values[row] is None:
                    self.refuse(
                        row, Reason.NULL_VALUE, "the record has no value; an activity is never a tombstone"
                    )
            rows = [row for row in rows if row not in self.refused]
        return self.bearable(rows, bytes_max)

    def bearable(self, rows: Sequence[int], bytes_max: int) -> Sequence[int]:
        """Of the rows with a value those that are not too large; the others are refused."""
        values = self.chosen(rows)
        if max(map(len, values), default=0) <= bytes_max:
            return rows
        for row, value in zip(rows, values, strict=True):
            if len(value) > bytes_max:
                size = f"the value has {len(value):,} bytes, at most {bytes_max:,} are taken; send less"
                self.refuse(row, Reason.OVERSIZED, size)
        return [row for row in rows if row not in self.refused]

    def chosen(self, rows: Sequence[int]) -> Sequence[bytes]:
        """The values of `rows`, all of which have one."""
        if len(rows) == len(self.values):
            return self.values  # type: ignore[return-value]
        return [self.values[row] for row in rows]  # type: ignore[misc]

    def dead_letters(self) -> list[DeadLetter]:
        """One for each refused record, in offset order."""
        return [
            DeadLetter(
                self.topic,
                self.partition,
                int(self.offsets[row]),
                int(self.timestamps_ms[row]),
                self.keys[row],
                self.values[row],
                *self.refused[row],
            )
            for row in sorted(self.refused)
        ]


@dataclass(frozen=True, slots=True)
class Opened:
    """Decoded fields, not yet checked: `table` row i is row `rows[i]` of the fetch. Absent is null."""

    rows: I64
    table: pa.RecordBatch


class Opener(Protocol):
    """Turns values into a table; refuses what it cannot turn."""

    def open(self, fetch: Fetch, rows: Sequence[int]) -> Opened:
        """`rows`: those with a value, in offset order; `open` keeps their order."""
        ...

    def open_block(self, block: Block) -> Whole | None:
        """All records of a block, where they can be read at once and nothing is wrong with any."""
        ...
