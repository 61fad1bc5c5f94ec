"""Bytes of a partition's log, as a broker sends them, made without a broker."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from streams.faust_private.raw import Aborted

CRC_AT, ATTRIBUTES_AT, LAST_DELTA_AT = 17, 21, 23
CONTROL = 0x20
COMMIT, ABORT = 1, 0


@dataclass
class Log:
    """Appends batches at growing offsets."""

    data: bytearray = field(default_factory=bytearray)
    end: int = 0
    _aborted: list[tuple[Aborted, int]] = field(default_factory=list)
    _open: dict[int, int] = field(default_factory=dict)

    def append(
        self,
        values: list[bytes | None],
        *,
        producer: int = -1,
        gzip: bool = False,
        removed: int = 0,
        timestamp_ms: int = 1_700_000_000_000,
    ) -> None:
        """A batch; of a transaction when `producer` >= 0. `removed`: offsets at its end that are gone."""
        if producer >= 0:
            self._open.setdefault(producer, self.end)
        batch = self._build(values, producer, gzip, timestamp_ms)
        if removed:
            struct.pack_into(">i", batch, LAST_DELTA_AT, len(values) - 1 + removed)
        self._add(batch, len(values) + removed)

    def finish(self, producer: int, how: int) -> None:
        """The marker that ends the producer's transaction."""
        first = self._open.pop(producer, None)
        if how == ABORT and first is not None:
            self._aborted.append((Aborted(producer, first), self.end))
        batch = self._build([b"\0" * 6], producer, False, 0, key=struct.pack(">hh", 0, how))
        attributes = struct.unpack_from(">h", batch, ATTRIBUTES_AT)[0]
        struct.pack_into(">h", batch, ATTRIBUTES_AT, attributes | CONTROL)
        self._add(batch, 1)

    def gap(self, offsets: int) -> None:
        """So many offsets are gone."""
        self.end += offsets

    def aborted(self, start: int) -> list[Aborted]:
        """What a broker lists with a committed read from `start`: transactions whose marker is there or
        later."""
        return [one for one, marker in self._aborted if marker >= start]

    def since(self, start: int) -> bytes:
        """What a broker sends for `start`: from the batch that holds it."""
        at = 0
        while at < len(self.data):
            base, length = struct.unpack_from(">qi", self.data, at)
            if base + struct.unpack_from(">i", self.data, at + LAST_DELTA_AT)[0] >= start:
                break
            at += 12 + length
        return bytes(self.data[at:])

    @staticmethod
    def _build(
        values: list[bytes | None], producer: int, gzip: bool, timestamp_ms: int, key: bytes | None = None
    ) -> bytearray:
        builder = DefaultRecordBatchBuilder(
            2,
            1 if gzip else 0,
            is_transactional=int(producer >= 0),
            producer_id=producer,
            producer_epoch=0 if producer >= 0 else -1,
            base_sequence=0 if producer >= 0 else -1,
            batch_size=1 << 20,
        )
        for n, value in enumerate(values):
            builder.append(n, timestamp_ms + n, key or b"k%d" % n, value, [])
        return bytearray(builder.build())

    def _add(self, batch: bytearray, offsets: int) -> None:
        struct.pack_into(">q", batch, 0, self.end)
        struct.pack_into(">I", batch, CRC_AT, calc_crc32c(bytes(batch[ATTRIBUTES_AT:])))
        self.data += batch
        self.end += offsets
