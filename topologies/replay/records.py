"""Where a replay reads from (1): offsets and bytes of each partition, as a fetch of the live job has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from streams.batch import RecordBatch


class RecordLog(Protocol):
    """Activities by partition, and items. Batches of a partition join without a hole."""

    def activities(self, partition: int, start: int, end: int) -> AsyncIterator[RecordBatch]:
        """Records with offsets from `start` up to `end`, which the last batch's `next_offset` is."""
        ...

    def items(self) -> AsyncIterator[RecordBatch]:
        """All items as they were when the replay was defined, in the order of their log."""
        ...


def until(batch: RecordBatch, end: int) -> RecordBatch:
    """The records before offset `end`."""
    if batch.next_offset <= end:
        return batch
    count = int(batch.offsets.searchsorted(end))
    return RecordBatch(
        batch.topic,
        batch.partition,
        batch.start,
        end,
        batch.offsets[:count],
        batch.timestamps_ms[:count],
        batch.keys[:count],
        batch.values[:count],
    )
