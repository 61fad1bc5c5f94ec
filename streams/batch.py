"""One partition's fetch as columns (flow step 1): what an agent receives instead of one record at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RecordBatch:
    """n records of one partition in offset order, n >= 0.

    `offsets` int64[n] ascending, maybe with gaps (compaction, transaction markers). `timestamps_ms` int64[n]:
    Kafka's record timestamps. `keys`, `values`: lists of n, None where null. `start` is the position that was
    read from, `next_offset` the one to read from afterwards: batches of a partition join without a hole when
    each starts at the previous one's `next_offset`, whatever offsets are missing in between. A batch may be
    empty (n = 0) and still move the position, past markers or aborted records.
    """

    topic: str
    partition: int
    start: int
    next_offset: int
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    keys: list[bytes | None]
    values: list[bytes | None]

    def __len__(self) -> int:
        return len(self.values)

    def cut(self, first: int, last: int) -> RecordBatch:
        """The records [first, last), to be decoded by themselves: the positions are the whole batch's."""
        return replace(
            self,
            offsets=self.offsets[first:last],
            timestamps_ms=self.timestamps_ms[first:last],
            keys=self.keys[first:last],
            values=self.values[first:last],
        )

    def since(self, offset: int) -> RecordBatch:
        """The records at `offset` and after."""
        at = int(np.searchsorted(self.offsets, offset))
        return RecordBatch(
            self.topic,
            self.partition,
            max(self.start, offset),
            self.next_offset,
            self.offsets[at:],
            self.timestamps_ms[at:],
            self.keys[at:],
            self.values[at:],
        )
