"""Blocks of good items, read at once (flow step 5).

To what merges ask of them, with no object per item, for who keeps attributes only; or to records, for the
item index. `ItemDecoder` says the same of every block read here, and reads all others one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.fingerprint import FP32
from models.item_columns import ItemRecord
from streams.batch import RecordBatch
from streams.block import Block, BlockBatch
from streams.codec.avro_batch import AvroOpener
from streams.codec.embedding import quantise
from streams.codec.frames import Whole
from streams.codec.item_fields import vectors
from streams.codec.schemas import BundledSchemas, Schemas
from streams.codec.text import Text, list_lengths, list_offsets, numbers, plain
from streams.limits import (
    CLOCK_AHEAD_MS_MAX,
    EMBEDDING_DIMENSIONS_MAX,
    EVENT_TIME_MS_MAX,
    EVENT_TIME_MS_MIN,
    ID_BYTES_MAX,
    ITEM_BYTES_MAX,
    ITEM_TOPICS_MAX,
    TITLE_CHARS_MAX,
)

U64 = NDArray[np.uint64]
TOPICS_TOLD_APART_MAX = 16
"""Items with more topics are left to ItemDecoder: here each is compared with each."""
AT_ONCE_MAX = 2_000
"""Items of a block that is made to records in one hold of the loop: 7 ms, beside other work."""


@dataclass(frozen=True, slots=True)
class ItemColumns:
    """n items in the order of their records: fp uint64[n], author_fp32 uint32[n], topic_fp32 uint32[n, 4]
    (0 = none), embedding int8[n, 64] (zeros: none)."""

    fp: U64
    author_fp32: NDArray[np.uint32]
    topic_fp32: NDArray[np.uint32]
    embedding: NDArray[np.int8]


class ItemBlockReader:
    """Reads Avro items. `schemas`: None for the bundled one, else a Registry."""

    def __init__(self, schemas: Schemas | None = None) -> None:
        self._opener = AvroOpener("item", schemas or BundledSchemas())

    def read(self, batch: RecordBatch) -> ItemColumns | None:
        """The items of a batch that is a whole block; None unless each is good and none is removed.

        Raises SchemaPending when the registry has not told a schema id yet: fetch and try again.
        """
        if not isinstance(batch, BlockBatch) or len(batch) != batch.block.count or not len(batch):
            return None
        whole = self._good(batch.block)
        return None if whole is None else _columns(whole.table)

    def records(self, batch: RecordBatch) -> list[ItemRecord] | None:
        """The items of a batch of a block; None unless each of the block is good and none is removed.

        Raises as `read`.
        """
        if not isinstance(batch, BlockBatch) or not 0 < batch.block.count <= AT_ONCE_MAX:
            return None
        made = batch.block.made
        if self not in made:
            whole = self._good(batch.block)
            made[self] = None if whole is None else _records(whole.table)
        records: list[ItemRecord] | None = made[self]
        return None if records is None else records[batch.first : batch.last]

    def _good(self, block: Block) -> Whole | None:
        whole = self._opener.open_block(block)
        return whole if whole is not None and _all_good(whole) else None


def _all_good(whole: Whole) -> bool:
    """Whether every item keeps all rules of `ItemDecoder`, which says what is wrong where one does not."""
    table = whole.table
    ids = Text(table.column("item_id"))
    if whole.value_bytes_max > ITEM_BYTES_MAX or not whole.keys.equals(table.column("item_id")):
        return False
    if b"{" in ids.data:  # a key that is JSON names its item within
        return False
    deleted = table.column("deleted")
    if deleted.null_count < len(deleted) and pc.any(deleted).as_py():
        return False
    topics = Text(table.column("topics").flatten())
    required = (ids, Text(table.column("author")), topics)
    if not all(_are_ids(one) and one.absent is None for one in required if len(one)):
        return False
    kinds = Text(table.column("kind"))
    return (kinds.nowhere or _are_ids(kinds)) and _created(whole) and _embedded(table)


def _are_ids(text: Text) -> bool:
    """1 to 128 bytes without control characters, wherever one is there."""
    lengths = text.lengths if text.absent is None else text.lengths[~text.absent]
    return bool(lengths.all() and lengths.max() <= ID_BYTES_MAX and text.controls() is None)


def _created(whole: Whole) -> bool:
    created_ms, absent = numbers(whole.table.column("created_at"))
    if absent is not None:
        return False
    within = (created_ms >= EVENT_TIME_MS_MIN) & (created_ms <= EVENT_TIME_MS_MAX)
    if (whole.record_ms > EVENT_TIME_MS_MAX).any():
        return False
    return bool((within & (created_ms <= whole.record_ms + CLOCK_AHEAD_MS_MAX)).all())


def _embedded(table: pa.RecordBatch) -> bool:
    lists = table.column("embedding")
    if lists.null_count == len(lists):
        return True
    sizes = np.diff(list_offsets(lists))
    return bool(sizes.max() <= EMBEDDING_DIMENSIONS_MAX and np.isfinite(vectors(lists)[0]).all())


def _columns(table: pa.RecordBatch) -> ItemColumns | None:
    fp32 = np.uint64(FP32)
    topics = _topics(table.column("topics"))
    if topics is None:
        return None
    return ItemColumns(
        Text(table.column("item_id")).fingerprints(),
        (_repeated(table.column("author")) & fp32).astype(np.uint32),
        topics,
        quantise(vectors(table.column("embedding"))[0]),
    )


def _records(table: pa.RecordBatch) -> list[ItemRecord]:
    matrix = quantise(vectors(table.column("embedding"))[0])
    has: list[bool] = np.any(matrix, axis=1).tolist()
    embeddings = zip(matrix, has, strict=True)
    lists = table.column("topics")
    topics, ends = lists.flatten().to_pylist(), np.cumsum(list_lengths(lists, nowhere=0)).tolist()
    names = ("item_id", "author", "created_at", "title", "kind")
    texts = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    return [
        ItemRecord(
            item_id,
            author,
            created_ms,
            tuple(dict.fromkeys(topics[start:end]))[:ITEM_TOPICS_MAX],
            vector if embedded else None,
            title[:TITLE_CHARS_MAX] if title else None,
            kind,
        )
        for (item_id, author, created_ms, title, kind), (vector, embedded), start, end in zip(
            texts, embeddings, [0, *ends[:-1]], ends, strict=True
        )
    ]


def _repeated(column: pa.Array) -> U64:
    """uint64[n]: fp64 of texts of which many are equal."""
    encoded = column.dictionary_encode()
    found: U64 = Text(encoded.dictionary).fingerprints()[plain(encoded.indices)]
    return found


def _topics(lists: pa.Array) -> NDArray[np.uint32] | None:
    """uint32[n, 4]: of the first four distinct topics of each item the distinct fp32; 0 behind them."""
    sizes = list_lengths(lists, nowhere=0)
    width = int(sizes.max())
    if width > TOPICS_TOLD_APART_MAX:
        return None
    found = np.zeros((sizes.size, ITEM_TOPICS_MAX), np.uint32)
    if not width:
        return found
    there = np.arange(width) < sizes[:, None]
    fps = np.zeros((sizes.size, width), np.uint64)
    fps[there] = _repeated(lists.flatten())
    first = _firsts(fps, there)
    first &= np.cumsum(first, axis=1) <= ITEM_TOPICS_MAX
    low = (fps & np.uint64(FP32)).astype(np.uint32)
    kept = _firsts(low, first)
    row, column = np.nonzero(kept)
    found[row, (np.cumsum(kept, axis=1) - 1)[row, column]] = low[row, column]
    return found


def _firsts(values: NDArray[np.uint64] | NDArray[np.uint32], there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool[n, w]: the places that are there and whose value no earlier such place of the row has."""
    first = there.copy()
    for column in range(1, values.shape[1]):
        before = (values[:, :column] == values[:, column : column + 1]) & there[:, :column]
        first[:, column] &= ~before.any(axis=1)
    return first
