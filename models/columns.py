"""What flows between decode (1) and the rows (2, 3): one partition's batch as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class ActivityColumns:
    """n good activities of one partition, in offset order.

    `keys` are the actors' ids (bytes). Fingerprints are `fp64` of the ids. Absent values: `dwell_ms` 0,
    `position` -1, `slate_fp` 0, `undone_verb` -1, `undone_ms` 0. `verb` and `undone_verb` index the policy's
    verb table. `target` is the kind of a graph verb's object: 0 author, 1 topic, 2 keyword. Times are ms.
    """

    keys: list[bytes]
    offset: I64
    record_ms: I64
    event_ms: I64
    activity_fp: U64
    object_fp: U64
    verb: NDArray[np.int16]
    target: NDArray[np.int8]
    dwell_ms: I64
    position: NDArray[np.int16]
    slate_fp: U64
    undone_verb: NDArray[np.int16]
    undone_ms: I64

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def joined(cls, parts: Sequence[ActivityColumns]) -> ActivityColumns:
        """One after the other; at least one part."""
        if len(parts) == 1:
            return parts[0]
        keys = [key for part in parts for key in part.keys]
        return cls(keys, *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)[1:]))

    def cut(self, start: int, stop: int) -> ActivityColumns:
        """The records [start, stop) as columns of their own (views, no copies of arrays)."""
        return ActivityColumns(*(getattr(self, f.name)[start:stop] for f in fields(self)))

    def slices(self, records_max: int) -> Iterator[ActivityColumns]:
        """Cut into slices of at most `records_max` records."""
        for start in range(0, len(self), records_max):
            yield self.cut(start, start + records_max)
