"""A spool gives back what it was given, from any offset on, and says so when the disk did not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from streams.batch import RecordBatch
from streams.block import BlockBatch
from streams.errors import ExitCode, OperatorError
from topologies.replay import spool as spools
from topologies.replay.spool import Record, Spool
from wire.names import ACTIVITIES, ITEMS
from wire.partitioner import partition_of

RECORDS = 100
PARTITIONS = 3


def record(n: int) -> Record:
    value = None if n % 7 == 3 else b"v%d" % n
    return Record(ITEMS if n % 10 == 0 else ACTIVITIES, b"k%d" % n, value, 1_000 - n)


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    """With record batches of a few records, some of them closed by their bytes."""
    monkeypatch.setattr(spools, "SPOOL_RECORDS", 20)
    monkeypatch.setattr(spools, "SPOOL_BYTES", 40)
    made = Spool(tmp_path / "spool")
    made.make(map(record, range(RECORDS)), PARTITIONS)
    return made


def read(
    spool: Spool, partition: int, start: int, end: int
) -> list[tuple[int, int, bytes | None, bytes | None]]:
    async def records() -> list[tuple[int, int, bytes | None, bytes | None]]:
        found = []
        async for batch in spool.activities(partition, start, end):
            columns = (batch.offsets.tolist(), batch.timestamps_ms.tolist(), batch.keys, batch.values)
            found += list(zip(*columns, strict=True))
        return found

    return asyncio.run(records())


@pytest.mark.parametrize("partition", range(PARTITIONS))
def test_records_come_back_from_any_offset_on(spool: Spool, partition: int) -> None:
    activities = [one for one in map(record, range(RECORDS)) if one.topic == ACTIVITIES]
    mine = [one for one in activities if partition_of(one.key, PARTITIONS) == partition]
    expected = [(at, one.timestamp_ms, one.key, one.value) for at, one in enumerate(mine)]
    assert spool.ends()[partition] == len(mine) > 20
    for start in range(len(mine) + 1):
        found = read(spool, partition, start, len(mine))
        assert found == expected[start:]


def test_items_are_numbered_anew_and_lie_side_by_side(tmp_path: Path) -> None:
    offsets = np.array([3, 4, 90, 91, 500] * 4, np.int64) + np.repeat(np.arange(4), 5) * 1_000
    keys: list[bytes | None] = [b"a", b"b", None, b"d", b"e"] * 4
    batch = RecordBatch(ITEMS, 0, 0, 3_501, offsets, offsets * 2, keys, [*reversed(keys)])

    async def batches() -> AsyncIterator[RecordBatch]:
        yield batch

    async def through() -> list[RecordBatch]:
        spool = Spool(tmp_path / "spool")
        await spool.keep_items(batches())
        return [one async for one in spool.items()]

    (found,) = asyncio.run(through())
    assert isinstance(found, BlockBatch), "read as columns, with holes or without"
    assert found.offsets.tolist() == [*range(20)]
    assert found.timestamps_ms.tolist() == (offsets * 2).tolist()
    assert (found.keys, found.values) == (keys, batch.values)


@pytest.mark.parametrize("how", ["cut", "bit", "head"])
def test_a_damaged_file_is_told(spool: Spool, how: str) -> None:
    path = spool.directory / "activities-1"
    data = bytearray(path.read_bytes())
    if how == "bit":
        data[len(data) // 2] ^= 4
    path.write_bytes(data[: {"cut": len(data) - 5, "bit": len(data), "head": 9}[how]])
    with pytest.raises(OperatorError, match="activities-1 is damaged") as refused:
        read(spool, 1, 0, RECORDS)
    assert refused.value.exit_code is ExitCode.DATA_DIRECTORY
