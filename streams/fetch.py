"""From fetched bytes to columns, a few hundred records at a time (step 1).

Control batches, aborted transactions, checksums and positions behave as in aiokafka's own unpacking
(aiokafka/consumer/fetcher.py, PartitionRecords._unpack_records); a test compares the two on the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice, zip_longest
from typing import Any

import numpy as np
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord

from streams.batch import RecordBatch
from streams.block import Block, Segment, slices
from streams.faust_private.raw import RawFetch

BLOCK_RECORDS_MIN = 2_000
"""Small record batches are read together up to here; decoding so many holds the loop for 3 to 5 ms."""
SEGMENT_RECORDS_MIN = 16
_NO_TIMES = np.empty(0, np.int64)


class Unpacker:
    """Walks one fetch. Holds the fetch's bytes, and the records of the RecordBatch that it is building."""

    def __init__(self, fetch: RawFetch) -> None:
        self.fetch = fetch
        self._position = fetch.start
        self._place = (fetch.topic, fetch.partition)
        self._aborted = sorted(fetch.aborted, key=lambda one: one.first_offset)
        self._aborted_producers: set[int] = set()

    def batches(self, records_max: int) -> Iterator[RecordBatch]:
        """RecordBatches of at most `records_max` records that join without a hole, from `fetch.start` to
        `fetch.next_offset`; one without records stands where nothing but markers is left.

        Raises CorruptRecordException (bad checksum): fetch again from the last batch's `next_offset`.
        """
        start = self._position
        held: list[Any] = []
        for batch, _ in self._readable():
            records = chain(batch)  # aiokafka's iterator may be begun only once
            while more := list(islice(records, records_max - len(held))):
                if more[0].offset < self._position:  # the broker only sends whole batches
                    more = [record for record in more if record.offset >= self._position]
                held += more
                if held:
                    self._position = held[-1].offset + 1
                if len(held) == records_max:
                    yield self._columns(start, held)
                    start, held = self._position, []
            self._position = max(self._position, batch.next_offset)
        self._position = max(self._position, self.fetch.next_offset)
        if held or start < self._position:
            yield self._columns(start, held)

    def blocks(self, records_max: int, block_records: int = BLOCK_RECORDS_MIN) -> Iterator[RecordBatch]:
        """The same records as `batches`, but with keys and values that are made when they are asked for, and
        of about equal size. Record batches are read together until there are `block_records`. Raises as
        `batches`."""
        if not self._lie_side_by_side():
            yield from self.batches(records_max)
            return
        start, held, count = self._position, list[Segment](), 0
        for batch, raw in self._readable():
            segment = Segment.of(batch, raw)
            assert segment is not None, "all were looked at"
            held.append(segment)
            count += segment.count
            if count >= block_records:
                for one in slices(self._place, start, Block(held), records_max):
                    yield one
                    start = one.next_offset
                held, count = [], 0
        if held:
            for one in slices(self._place, start, Block(held), records_max):
                yield one
                start = one.next_offset
        if start < self.fetch.next_offset:
            yield RecordBatch(*self._place, start, self.fetch.next_offset, _NO_TIMES, _NO_TIMES, [], [])

    def _lie_side_by_side(self) -> bool:
        """Whether all record batches can be read as they are, and are not so small that it would not pay."""
        raw = self.fetch.raw
        if not raw or self.fetch.next_offset - self.fetch.start < SEGMENT_RECORDS_MIN * len(raw):
            return False
        return all(Segment.of(one, its) for one, its in zip(self.fetch.batches, raw, strict=True))

    def _columns(self, start: int, records: list[Any]) -> RecordBatch:
        n = len(records)
        return RecordBatch(
            self.fetch.topic,
            self.fetch.partition,
            start,
            self._position,
            np.fromiter([r.offset for r in records], np.int64, n),
            np.fromiter([r.timestamp for r in records], np.int64, n),
            [r.key for r in records],
            [r.value for r in records],
        )

    def _readable(self) -> Iterator[tuple[Any, Any]]:
        """Batches with records for us, and their bytes. What is skipped moves the position when the next one
        begins or ends."""
        for batch, raw in zip_longest(self.fetch.batches, self.fetch.raw):
            if self.fetch.check_crcs and not batch.validate_crc():
                raise CorruptRecordException(
                    f"{self.fetch.topic} partition {self.fetch.partition}: the batch at offset "
                    f"{batch.base_offset} does not have its checksum; it is fetched again"
                )
            if self._is_aborted(batch) or batch.is_control_batch:
                self._position = max(self._position, batch.next_offset)
                continue
            yield batch, raw

    def _is_aborted(self, batch: Any) -> bool:
        if batch.producer_id is None or not self.fetch.aborted:
            return False
        while self._aborted and self._aborted[0].first_offset <= batch.base_offset:
            self._aborted_producers.add(self._aborted.pop(0).producer_id)
        if batch.is_control_batch:
            if ControlRecord.parse(next(batch).key) == ABORT_MARKER:
                self._aborted_producers.discard(batch.producer_id)
            return True
        return bool(batch.is_transactional) and batch.producer_id in self._aborted_producers
