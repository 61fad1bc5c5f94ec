"""One partition's log as brokers keep it: batches in Kafka's own bytes, transactions, markers, and offsets
that compaction took."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from streams.faust_private.raw import Aborted

CRC_AT, ATTRIBUTES_AT, LAST_DELTA_AT = 17, 21, 23
CONTROL = 0x20
COMMIT, ABORT = 1, 0

Record = tuple[int, int, bytes | None, bytes | None, Sequence[tuple[str, bytes]]]
"""Offset, timestamp, key, value, headers."""


@dataclass(frozen=True)
class Batch:
    """`data`: as it goes over the wire; offsets from `base` to below `next`."""

    base: int
    next: int
    data: bytes
    producer: int = -1
    control: bool = False

    @cached_property
    def records(self) -> list[Record]:
        """What is left in it."""
        batch = DefaultRecordBatch(self.data)
        batch.validate_crc()  # it insists
        return [(one.offset, one.timestamp, one.key, one.value, one.headers) for one in batch]


def packed(records: Sequence[Record], base: int = 0, producer: int = -1, epoch: int = -1) -> bytearray:
    """A batch as aiokafka makes it, of records whose offsets begin at `base`."""
    builder = DefaultRecordBatchBuilder(
        2,
        0,
        is_transactional=int(producer >= 0),
        producer_id=producer,
        producer_epoch=epoch,
        base_sequence=0 if producer >= 0 else -1,
        batch_size=1 << 24,
    )
    for offset, timestamp, key, value, headers in records:
        builder.append(offset - base, timestamp, key, value, list(headers))
    return bytearray(builder.build())


def stamped(data: bytearray, base: int, next_: int, producer: int, control: bool = False) -> Batch:
    """The batch in its place in the log; a checksum does not cover its first offset, but all else."""
    struct.pack_into(">q", data, 0, base)
    if control or struct.unpack_from(">i", data, LAST_DELTA_AT)[0] != next_ - base - 1:
        struct.pack_into(">i", data, LAST_DELTA_AT, next_ - base - 1)
        attributes = struct.unpack_from(">h", data, ATTRIBUTES_AT)[0]
        struct.pack_into(">h", data, ATTRIBUTES_AT, attributes | (CONTROL if control else 0))
        struct.pack_into(">I", data, CRC_AT, calc_crc32c(bytes(data[ATTRIBUTES_AT:])))
    return Batch(base, next_, bytes(data), producer, control)


@dataclass
class PartitionLog:
    """`end`: the next offset. `epochs`: by producer, below which epoch nothing is taken any more."""

    end: int = 0
    batches: list[Batch] = field(default_factory=list)
    epochs: dict[int, int] = field(default_factory=dict)
    _open: dict[int, int] = field(default_factory=dict)
    _aborted: list[tuple[Aborted, int]] = field(default_factory=list)

    def append(self, data: bytearray, count: int, producer: int = -1) -> int:
        """Give a batch of `count` records the next offsets; returns the first."""
        base = self.end
        if producer >= 0:
            self._open.setdefault(producer, base)
        self.batches.append(stamped(data, base, base + count, producer))
        self.end += count
        return base

    def mark(self, producer: int, epoch: int, how: int) -> None:
        """The marker that ends the producer's transaction here."""
        self.epochs[producer] = max(self.epochs.get(producer, 0), epoch)
        first = self._open.pop(producer, None)
        if how == ABORT and first is not None:
            self._aborted.append((Aborted(producer, first), self.end))
        data = packed([(0, 0, struct.pack(">hh", 0, how), b"\0" * 6, ())], 0, producer, epoch)
        self.batches.append(stamped(data, self.end, self.end + 1, producer, control=True))
        self.end += 1

    @property
    def stable(self) -> int:
        """The end of what is committed or aborted."""
        return min(self._open.values(), default=self.end)

    def has(self, start: int, committed: bool) -> bool:
        """Whether there is anything to send for `start`."""
        end = self.stable if committed else self.end
        newest = next((one for one in reversed(self.batches) if one.next <= end), None)
        return newest is not None and newest.next > start

    def since(self, start: int, batches_max: int, committed: bool) -> list[Batch]:
        """What a broker sends for `start`: from the batch that holds it."""
        end = self.stable if committed else self.end
        return [one for one in self.batches if one.next > start and one.next <= end][:batches_max]

    def aborted(self, batches: Sequence[Batch]) -> list[Aborted]:
        """What a broker lists with these."""
        if not batches:
            return []
        start, end = batches[0].base, batches[-1].next
        return [one for one, marker in self._aborted if marker >= start and one.first_offset < end]

    def read(self) -> list[Record]:
        """All committed records."""
        gone = [(one.producer_id, one.first_offset, marker) for one, marker in self._aborted]
        found: list[Record] = []
        for batch in self.since(0, len(self.batches), committed=True):
            dead = any(batch.producer == p and first <= batch.base < marker for p, first, marker in gone)
            if not batch.control and not dead:
                found += batch.records
        return found

    def compact(self, keep_newest: int, markers_too: bool) -> None:
        """Take records whose key comes again later, what aborted transactions left, and maybe markers.

        The newest batches stay as they are.
        """
        last = {key: offset for offset, _, key, _, _ in self.read()}
        alive = {offset for offset, _, _, _, _ in self.read()}
        head = self.since(0, len(self.batches), committed=True)[: -keep_newest or None]
        kept: list[Batch] = []
        for batch in head:
            if batch.control:
                kept += [] if markers_too else [batch]
                continue
            records = [one for one in batch.records if one[0] in alive and last[one[2]] == one[0]]
            if records:
                data = packed(records, batch.base, batch.producer, 0)
                kept.append(stamped(data, batch.base, batch.next, batch.producer))
        end = head[-1].next if head else 0
        self._aborted = [one for one in self._aborted if one[1] >= end]
        self.batches = kept + self.batches[len(head) :]
