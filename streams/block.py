"""Records as they lie in Kafka's batches (step 1): one buffer, no object per record until it is asked for.

A block is some record batches (format 2) one after the other. A decoder that can reads columns straight from
`body`; everybody else gets lists of keys and values, made when they are first asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from aiokafka import codec
from numpy.typing import NDArray

from streams.batch import RecordBatch

I64 = NDArray[np.int64]

_HEADER = struct.Struct(">qiibIhiqqqhii")
_MAGIC_AT, _MAGIC = 16, 2
_CODEC, _LOG_APPEND_TIME = 0x07, 0x08
_UNPACK: dict[int, Callable[[Any], bytes]] = {
    0: bytes,
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: codec.lz4_decode,
    4: codec.zstd_decode,
}


@dataclass(frozen=True, slots=True)
class Segment:
    """One record batch: `count` records with offsets from `base` without a hole.

    Their times are `first_ms` plus each one's own delta, or all `append_ms` where the broker sets them.
    """

    records: Any
    raw: memoryview
    base: int
    count: int
    codec: int
    first_ms: int
    append_ms: int | None

    @classmethod
    def of(cls, records: Any, raw: memoryview) -> Segment | None:
        """None for an older format, or where compaction took records."""
        if len(raw) < _HEADER.size or raw[_MAGIC_AT] != _MAGIC:
            return None
        base, _, _, _, _, attributes, last, first_ms, max_ms, _, _, _, count = _HEADER.unpack_from(raw)
        if last + 1 != count or attributes & _CODEC not in _UNPACK:
            return None
        append_ms = max_ms if attributes & _LOG_APPEND_TIME else None
        return cls(records, raw, base, count, attributes & _CODEC, first_ms, append_ms)

    def body(self) -> bytes:
        """The records, decompressed."""
        return _UNPACK[self.codec](self.raw[_HEADER.size :])


@dataclass
class Block:
    """`segments` one after the other. `made`: what each decoder made of the whole block."""

    segments: list[Segment]
    made: dict[object, Any] = field(default_factory=dict)

    @cached_property
    def count(self) -> int:
        return sum(one.count for one in self.segments)

    @cached_property
    def offsets(self) -> I64:
        """int64[count]."""
        return np.concatenate([np.arange(one.base, one.base + one.count) for one in self.segments])

    def spread(self, values: Sequence[int]) -> I64:
        """int64[count]: one value per segment, for each of its records."""
        return np.repeat(np.array(values, np.int64), [one.count for one in self.segments])

    def body(self) -> bytes:
        """All records, decompressed."""
        return b"".join([one.body() for one in self.segments])

    @cached_property
    def records(self) -> list[Any]:
        """aiokafka's records."""
        return [record for one in self.segments for record in one.records]


class BlockBatch(RecordBatch):
    """The records [first, last) of a block; keys, values and times are made when they are asked for."""

    def __init__(
        self, place: tuple[str, int], start: int, next_offset: int, block: Block, first: int, last: int
    ) -> None:
        own: dict[str, Any] = {
            "topic": place[0],
            "partition": place[1],
            "start": start,
            "next_offset": next_offset,
            "block": block,
            "first": first,
            "last": last,
            "offsets": block.offsets[first:last],
        }
        self.__dict__.update(own)

    block: Block
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first

    def cut(self, first: int, last: int) -> BlockBatch:
        place, end = (self.topic, self.partition), min(self.first + last, self.last)
        return BlockBatch(place, self.start, self.next_offset, self.block, self.first + first, end)

    @cached_property
    def timestamps_ms(self) -> I64:
        records = self.block.records[self.first : self.last]
        return np.fromiter([record.timestamp for record in records], np.int64, len(self))

    @cached_property
    def keys(self) -> list[bytes | None]:
        return [record.key for record in self.block.records[self.first : self.last]]

    @cached_property
    def values(self) -> list[bytes | None]:
        return [record.value for record in self.block.records[self.first : self.last]]


def slices(place: tuple[str, int], start: int, block: Block, records_max: int) -> Iterator[BlockBatch]:
    """The block's records from offset `start` on, in batches of about equal size, at most `records_max`."""
    first = int(np.searchsorted(block.offsets, start))
    parts = -(-(block.count - first) // records_max)
    bounds = [first + (block.count - first) * n // parts for n in range(parts + 1)] if parts else []
    for a, b in pairwise(bounds):
        end = int(block.offsets[b - 1]) + 1
        yield BlockBatch(place, start, end, block, a, b)
        start = end
