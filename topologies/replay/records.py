"""Where a replay reads from (1): offsets and bytes of each partition, as a fetch of the live job has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import numpy as np

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


def slices(batch: RecordBatch, records_max: int) -> Iterator[RecordBatch]:
    """The batch in parts of at most `records_max` records that join without a hole."""
    starts = range(0, len(batch), records_max)
    if len(starts) <= 1:
        if len(batch):
            yield batch
        return
    for start in starts:
        part = slice(start, start + records_max)
        last = start + records_max >= len(batch)
        yield RecordBatch(
            batch.topic,
            batch.partition,
            batch.start if not start else int(batch.offsets[start]),
            batch.next_offset if last else int(batch.offsets[start + records_max]),
            batch.offsets[part],
            batch.timestamps_ms[part],
            batch.keys[part],
            batch.values[part],
        )


def message_batch(topic: str, partition: int, start: int, messages: list[bytes]) -> RecordBatch:
    """Messages as a fetch that begins at `start`."""
    offsets = np.arange(start, start + len(messages))
    keys: list[bytes | None] = [None] * len(messages)
    return RecordBatch(topic, partition, start, start + len(messages), offsets, offsets, keys, [*messages])
