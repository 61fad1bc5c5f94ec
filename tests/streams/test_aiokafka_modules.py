"""What we use of aiokafka's undocumented modules: one test per module, which says what has moved.

None of them has an underscore, and none is promised: the code that uses them is named in each sentence. What
leans on the insides of classes is in test_faust_private.py.
"""

from __future__ import annotations

import ast
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import codec
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("wire", "models", "streams", "topologies", "serving", "demo", "feedrank")
DOCUMENTED = {"errors", "structs", "helpers"}
TESTED_HERE = {
    "codec",
    "record.control_record",
    "record.default_records",
    "record.memory_records",
    "record.util",
}
HEAD = struct.Struct(">qi11xi")


def moved(sentence: str, there: bool) -> None:
    """Fail with the sentence unless what we use is there."""
    assert there, f"{sentence}. Adapt the module that it names, then this test"


def modules_of_aiokafka(path: Path) -> Iterator[str]:
    """Modules below `aiokafka` that the file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (one.name.removeprefix("aiokafka.") for one in node.names if "aiokafka." in one.name)
        elif isinstance(node, ast.ImportFrom) and node.module == "aiokafka":
            yield from (one.name for one in node.names if one.name.islower())
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aiokafka."):
            yield str(node.module).removeprefix("aiokafka.")


def test_each_undocumented_module_in_use_has_a_test_here() -> None:
    files = [path for part in PACKAGES for path in (ROOT / part).rglob("*.py")]
    outside = [path for path in files if path.parent.name != "faust_private"]
    used = {module for path in outside for module in modules_of_aiokafka(path)}
    assert used - DOCUMENTED <= TESTED_HERE


def test_a_checksum_is_crc32c_of_any_bytes() -> None:
    moved(
        "aiokafka.record.util.calc_crc32c() is no CRC-32C of a buffer: streams/record_batch.py signs batches",
        {calc_crc32c(kind(b"123456789")) for kind in (bytes, bytearray, memoryview)} == {0xE3069283},
    )


def test_an_abort_marker_is_known_by_its_key() -> None:
    aborted, committed = (ControlRecord.parse(struct.pack(">hh", 0, kind)) for kind in (0, 1))
    moved(
        "ControlRecord.parse(key) says ABORT_MARKER no more: streams/fetch.py ends aborted ones by it",
        aborted == ABORT_MARKER and committed != ABORT_MARKER,
    )


@pytest.mark.parametrize("kind", ["gzip", "snappy", "lz4", "zstd"])
def test_codecs_open_what_they_closed(kind: str) -> None:
    plain = b"activities " * 200
    closed = getattr(codec, f"{kind}_encode")(plain)
    moved(
        f"aiokafka.codec.{kind}_decode() opens no memoryview any more: streams/block.py reads fetches by it",
        bytes(getattr(codec, f"{kind}_decode")(memoryview(closed))) == plain and len(closed) < len(plain),
    )


def built() -> bytes:
    """Two records from offset 0 on, made as topologies/replay/spool.py makes them."""
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1, batch_size=1 << 30
    )
    for offset, value in ((0, b"a"), (1, None)):
        assert builder.append(offset, 1_000 + offset, b"k", value, [])
    return bytes(builder.build())


def test_a_batch_is_built_with_its_length_and_count_in_front() -> None:
    data = built()
    moved(
        "DefaultRecordBatchBuilder makes another batch than format 2: topologies/replay/spool.py writes them",
        HEAD.unpack_from(data) == (0, len(data) - 12, 1) and data[16] == 2,
    )


def test_a_batch_is_read_back_record_by_record() -> None:
    records = MemoryRecords(built())
    batch = records.next_batch()
    found = [(one.offset, one.timestamp, one.key, one.value) for one in batch]
    moved(
        "MemoryRecords.next_batch() reads other records: spool.py and streams/fetch.py lean on it",
        found == [(0, 1_000, b"k", b"a"), (1, 1_001, b"k", None)]
        and (batch.base_offset, batch.next_offset) == (0, 2)
        and (batch.is_control_batch, batch.is_transactional, batch.producer_id) == (False, False, -1)
        and not records.has_next(),
    )


def test_a_damaged_batch_is_known_by_its_checksum_and_half_of_one_is_none() -> None:
    whole = built()
    damaged = MemoryRecords(whole[:-2] + b"?" + whole[-1:]).next_batch()
    moved("MemoryRecords' validate_crc() passes damage: damaged spools are read", not damaged.validate_crc())
    assert MemoryRecords(whole).next_batch().validate_crc()
    try:
        half = MemoryRecords(whole[:-1]).next_batch()
    except CorruptRecordException:
        half = None
    moved("MemoryRecords.next_batch() makes a batch of half of one: cut spools are read", half is None)
