"""Records kept on disk in the order of their log (1, 5): those of files, and the items of every source.

One file per topic and partition, of Kafka's record batches as a broker would send them: there is one way to
read records, from files and from topics. A spool is made in one go, under another name until it is whole: a
replay that dies while it reads its files begins that part again.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import orjson
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streams.batch import RecordBatch
from streams.errors import ExitCode, OperatorError
from streams.faust_private.raw import RawFetch
from streams.fetch import Unpacker
from topologies.replay.shadow import disk_error
from wire.names import ACTIVITIES, ITEMS
from wire.partitioner import partition_of

ENDS_FILE = "ends.json"
SPOOL_RECORDS = 20_000
SPOOL_BYTES = 16 << 20
"""A batch of a spool's file has at most so many records, and is closed when its values have so many bytes."""
HEAD = struct.Struct(">qi11xi")
"""Of a record batch: base offset, bytes that follow, offset delta of the last record."""
OFFSET_BYTES, LENGTH_FROM = 8, 12


class Record(NamedTuple):
    """One record of a file on its way into the spool; `timestamp_ms` is what Kafka's would be."""

    topic: str
    key: bytes
    value: bytes | None
    timestamp_ms: int


class _Writer:
    """Appends records to a file. Offsets of a batch begin at its first record's."""

    def __init__(self, path: Path) -> None:
        self.records = 0
        self._file = path.open("wb")
        self._base, self._held, self._bytes = 0, 0, 0
        self._batch = _batch()

    def add(self, offset: int, timestamp_ms: int, key: bytes | None, value: bytes | None) -> None:
        if not self._held:
            self._base = offset
        self._batch.append(offset - self._base, timestamp_ms, key, value, [])
        self._held += 1
        self._bytes += len(value or b"")
        self.records += 1
        if self._held == SPOOL_RECORDS or self._bytes >= SPOOL_BYTES:
            self._write()

    def _write(self) -> None:
        block = bytes(self._batch.build())
        self._file.write(self._base.to_bytes(OFFSET_BYTES, "big") + block[OFFSET_BYTES:])
        self._held, self._bytes, self._batch = 0, 0, _batch()

    def close(self) -> None:
        if self._held:
            self._write()
        self._file.close()


def _batch() -> DefaultRecordBatchBuilder:
    return DefaultRecordBatchBuilder(
        2,
        0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )


@dataclass(frozen=True, slots=True)
class Spool:
    """A directory of records: `activities-<p>` and `items-0`."""

    directory: Path

    @property
    def whole(self) -> bool:
        """Whether it was made to its end."""
        return self.directory.exists()

    def ends(self) -> dict[int, int]:
        """How many activities each partition has, of a whole spool that was made from files."""
        return {int(p): n for p, n in orjson.loads((self.directory / ENDS_FILE).read_bytes()).items()}

    def make(self, records: Iterable[Record], partitions: int) -> dict[int, int]:
        """Write records of both topics, activities by their key's partition of `partitions`; returns how many
        activities each partition has. Raises OperatorError when the disk does not take them."""
        with self._fresh() as fresh:
            items = _Writer(fresh / "items-0")
            shares = [_Writer(fresh / f"activities-{p}") for p in range(partitions)]
            for one in records:
                writer = items if one.topic == ITEMS else shares[partition_of(one.key, partitions)]
                writer.add(writer.records, one.timestamp_ms, one.key, one.value)
            items.close()
            return _close(fresh, shares)

    async def keep_items(self, batches: AsyncIterator[RecordBatch]) -> None:
        """Write the items of another source. Raises OperatorError when the disk does not take them."""
        with self._fresh() as fresh:
            await _copy(batches, _Writer(fresh / "items-0"))

    async def keep(
        self,
        items: AsyncIterator[RecordBatch],
        activities: AsyncIterator[RecordBatch],
        partitions: int,
        were: int,
    ) -> None:
        """Write items, and activities of a topic of `were` partitions as if it had `partitions`.

        A record without a key, or in another partition than its key's, is left out: the live job has set it
        aside. Raises OperatorError when the disk does not take them.
        """
        with self._fresh() as fresh:
            await _copy(items, _Writer(fresh / "items-0"))
            shares = [_Writer(fresh / f"activities-{p}") for p in range(partitions)]
            async for batch in activities:
                for at_ms, key, value in zip(
                    batch.timestamps_ms.tolist(), batch.keys, batch.values, strict=True
                ):
                    if key is not None and partition_of(key, were) == batch.partition:
                        writer = shares[partition_of(key, partitions)]
                        writer.add(writer.records, at_ms, key, value)
            _close(fresh, shares)

    @contextmanager
    def _fresh(self) -> Iterator[Path]:
        """A directory that takes this one's place when the block ends well."""
        fresh = self.directory.with_name(f"{self.directory.name}.new")
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            yield fresh
            fresh.replace(self.directory)
        except OSError as error:
            raise disk_error(fresh, error) from error

    async def activities(self, partition: int, start: int, end: int) -> AsyncIterator[RecordBatch]:
        """See RecordLog; offsets are places in the file. Raises OperatorError for a damaged file."""
        place = (ACTIVITIES, partition)
        for fetch in self._read(place, f"activities-{partition}", start):
            if fetch.start >= end:
                return
            for batch in Unpacker(fetch).blocks(SPOOL_RECORDS, SPOOL_RECORDS):
                yield batch

    async def items(self) -> AsyncIterator[RecordBatch]:
        """See RecordLog. Raises OperatorError for a damaged file."""
        for fetch in self._read((ITEMS, 0), "items-0", 0):
            for batch in Unpacker(fetch).blocks(SPOOL_RECORDS, SPOOL_RECORDS):
                yield batch

    def _read(self, place: tuple[str, int], name: str, start: int) -> Iterator[RawFetch]:
        """Each record batch that holds offset `start` or a later one, as if it were an answer of a broker."""
        path = self.directory / name
        with path.open("rb") as file:
            while head := file.read(HEAD.size):
                try:
                    base, rest, last = HEAD.unpack(head)
                    left = rest - (HEAD.size - LENGTH_FROM)
                    if base + last < start:
                        file.seek(left, os.SEEK_CUR)
                        continue
                    data = head + file.read(left)
                    batch = MemoryRecords(data).next_batch()
                    if batch is None or not batch.validate_crc():
                        raise ValueError("a batch does not have its checksum")
                except (struct.error, ValueError, CorruptRecordException) as error:
                    raise OperatorError(
                        f"{path} is damaged ({error}); check the disk, cancel the job and replay again",
                        ExitCode.DATA_DIRECTORY,
                    ) from error
                end = base + last + 1
                first = max(start, base)
                yield RawFetch(*place, first, end, [batch], [], False, end, raw=[memoryview(data)])


async def _copy(batches: AsyncIterator[RecordBatch], writer: _Writer) -> None:
    """All records, of all partitions, numbered anew: batches without holes are read as columns."""
    async for batch in batches:
        for at_ms, key, value in zip(batch.timestamps_ms.tolist(), batch.keys, batch.values, strict=True):
            writer.add(writer.records, at_ms, key, value)
    writer.close()


def _close(directory: Path, shares: Sequence[_Writer]) -> dict[int, int]:
    """End the files of all partitions, and say how many records each has."""
    for writer in shares:
        writer.close()
    found = {partition: writer.records for partition, writer in enumerate(shares)}
    (directory / ENDS_FILE).write_bytes(orjson.dumps(found, option=orjson.OPT_NON_STR_KEYS))
    return found
