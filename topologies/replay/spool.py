"""Records kept on disk in the order of their log (1, 5): those of files, and the items of every source.

One Arrow file per topic and partition. A spool is made in one go, under another name until it is whole: a
replay that dies while it reads its files begins that part again.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from streams.batch import RecordBatch
from topologies.replay.shadow import disk_error
from wire.names import ACTIVITIES, ITEMS
from wire.partitioner import partition_of

ENDS_FILE = "ends.json"
SPOOL_RECORDS = 20_000
"""In one batch of a spool's file; all but the last have so many."""
_SCHEMA = pa.schema(
    [("offset", pa.int64()), ("timestamp_ms", pa.int64()), ("key", pa.binary()), ("value", pa.binary())]
)


class Record(NamedTuple):
    """One record of a file on its way into the spool; `timestamp_ms` is what Kafka's would be."""

    topic: str
    key: bytes
    value: bytes | None
    timestamp_ms: int


@dataclass(slots=True)
class _Writer:
    path: Path
    records: int = 0
    _held: list[tuple[int, int, bytes | None, bytes | None]] = field(default_factory=list)
    _file: pa.RecordBatchFileWriter | None = None

    def add(self, offset: int, timestamp_ms: int, key: bytes | None, value: bytes | None) -> None:
        self._held.append((offset, timestamp_ms, key, value))
        self.records += 1
        if len(self._held) == SPOOL_RECORDS:
            self._write()

    def _write(self) -> None:
        if self._file is None:
            self._file = pa.ipc.new_file(str(self.path), _SCHEMA)
        columns = zip(*self._held, strict=True) if self._held else ([], [], [], [])
        arrays = [pa.array(column, kind.type) for column, kind in zip(columns, _SCHEMA, strict=True)]
        self._file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA))
        self._held = []

    def close(self) -> None:
        self._write()
        assert self._file is not None
        self._file.close()


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
        fresh = self.directory.with_name(f"{self.directory.name}.new")
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            found = self._fill(fresh, records, partitions)
            (fresh / ENDS_FILE).write_bytes(orjson.dumps(found, option=orjson.OPT_NON_STR_KEYS))
            fresh.replace(self.directory)
        except OSError as error:
            raise disk_error(fresh, error) from error
        return found

    @staticmethod
    def _fill(directory: Path, records: Iterable[Record], partitions: int) -> dict[int, int]:
        items = _Writer(directory / "items-0")
        shares = [_Writer(directory / f"activities-{p}") for p in range(partitions)]
        for one in records:
            writer = items if one.topic == ITEMS else shares[partition_of(one.key, partitions)]
            writer.add(writer.records, one.timestamp_ms, one.key, one.value)
        for writer in (items, *shares):
            writer.close()
        return {partition: writer.records for partition, writer in enumerate(shares)}

    async def keep_items(self, batches: AsyncIterator[RecordBatch]) -> None:
        """Write the items of another source. Raises OperatorError when the disk does not take them."""
        fresh = self.directory.with_name(f"{self.directory.name}.new")
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            items = _Writer(fresh / "items-0")
            async for batch in batches:
                for offset, at_ms, key, value in zip(
                    batch.offsets.tolist(),
                    batch.timestamps_ms.tolist(),
                    batch.keys,
                    batch.values,
                    strict=True,
                ):
                    items.add(offset, at_ms, key, value)
            items.close()
            fresh.replace(self.directory)
        except OSError as error:
            raise disk_error(fresh, error) from error

    async def activities(self, partition: int, start: int, end: int) -> AsyncIterator[RecordBatch]:
        """See RecordLog; offsets are places in the file."""
        for batch in self._read(ACTIVITIES, f"activities-{partition}", partition, start // SPOOL_RECORDS):
            if batch.next_offset > start and batch.start < end:
                yield batch.since(start) if batch.start < start else batch

    async def items(self) -> AsyncIterator[RecordBatch]:
        """See RecordLog."""
        for batch in self._read(ITEMS, "items-0", 0, 0):
            yield batch

    def _read(self, topic: str, name: str, partition: int, first: int) -> Iterator[RecordBatch]:
        with pa.memory_map(str(self.directory / name)) as mapped:
            file = pa.ipc.open_file(mapped)
            for number in range(first, file.num_record_batches):
                batch = file.get_batch(number)
                if not batch.num_rows:
                    continue
                offsets = batch.column("offset").to_numpy().astype(np.int64)
                yield RecordBatch(
                    topic,
                    partition,
                    int(offsets[0]),
                    int(offsets[-1]) + 1,
                    offsets,
                    batch.column("timestamp_ms").to_numpy().astype(np.int64),
                    batch.column("key").to_pylist(),
                    batch.column("value").to_pylist(),
                )
