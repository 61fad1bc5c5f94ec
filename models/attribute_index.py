"""What merges ask of items, and nothing else (5): for who builds rows and ranks nobody.

An ItemIndex keeps lists, sums and postings in step beside; that is most of the cost of an item that comes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.fingerprint import FP32, fp64
from models.hash_index import HashIndex
from models.item_columns import EMBEDDING_DIM, ITEM_TOPICS_MAX, Attributes, ItemRecord, check, distinct_topics
from models.slots import doubled

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
U64 = NDArray[np.uint64]
SLOTS_MIN = 1_024


class AttributeIndex:
    """Attributes of all items that came and did not go; as ItemIndex has them while it evicts nothing.

    >>> items = AttributeIndex()
    >>> items.upsert([ItemRecord("i", "ann", 5, ("tea",), None, None, None)])
    >>> items.attributes(np.array([fp64(b"i"), 7], np.uint64)).known.tolist()
    [True, False]
    """

    def __init__(self) -> None:
        self._index = HashIndex()
        self._top = 0
        self._author = np.zeros(SLOTS_MIN, np.uint32)
        self._topics = np.zeros((SLOTS_MIN, ITEM_TOPICS_MAX), np.uint32)
        self._embedding = np.zeros((SLOTS_MIN, EMBEDDING_DIM), np.int8)

    def __len__(self) -> int:
        return len(self._index)

    def lookup(self, fps: ArrayLike) -> I32:
        """int32[k]: a number of each of k items, -1 = unknown."""
        return self._index.get(fps)

    def attributes(self, fps: U64) -> Attributes:
        """What a merge of engagements asks of k items."""
        slots = self.lookup(fps)
        known = slots >= 0
        at = np.where(known, slots, 0)
        return Attributes(
            known,
            np.where(known, self._author[at], np.uint32(0)),
            np.where(known[:, None], self._topics[at], np.uint32(0)),
            np.where(known[:, None], self._embedding[at], np.int8(0)),
        )

    def upsert(self, records: Iterable[ItemRecord]) -> None:
        """Add or replace items; of one given twice the last counts. Raises ValueError as ItemIndex does."""
        wanted = {fp64(record.item_id.encode()): record for record in records}
        for record in wanted.values():
            check(record)
        fps = np.fromiter(wanted, np.uint64, len(wanted))
        self._write(self._slots_of(fps), list(wanted.values()))

    def upsert_columns(
        self, fps: U64, author_fp32: NDArray[np.uint32], topic_fp32: NDArray[np.uint32], embedding: I8
    ) -> None:
        """The same of n items as columns, as `Attributes` has them; of one given twice the last counts."""
        last = fps.size - 1 - np.unique(fps[::-1], return_index=True)[1]
        slots = self._slots_of(fps[last])
        self._author[slots], self._topics[slots] = author_fp32[last], topic_fp32[last]
        self._embedding[slots] = embedding[last]

    def _slots_of(self, fps: U64) -> NDArray[np.int64]:
        """int64[k]: the slots of k distinct items, new ones made."""
        slots = self.lookup(fps).astype(np.int64)
        new = slots < 0
        slots[new] = np.arange(self._top, self._top + int(new.sum()))
        self._top += int(new.sum())
        while self._top > self._author.size:
            self._author, self._topics = doubled(self._author), doubled(self._topics)
            self._embedding = doubled(self._embedding)
        self._index.insert(fps[new], slots[new])
        return slots

    def _write(self, slots: NDArray[np.int64], records: list[ItemRecord]) -> None:
        none = np.zeros(EMBEDDING_DIM, np.int8)
        fp32 = int(FP32)
        self._author[slots] = [fp64(record.author.encode()) & fp32 for record in records]
        topics = np.zeros((len(records), ITEM_TOPICS_MAX), np.uint32)
        for row, record in enumerate(records):
            for column, (_, fp) in enumerate(distinct_topics(record)):
                topics[row, column] = fp & fp32
        self._topics[slots] = topics
        embeddings = [none if record.embedding is None else record.embedding for record in records]
        self._embedding[slots] = np.array(embeddings, np.int8).reshape(len(records), EMBEDDING_DIM)

    def remove(self, fps: ArrayLike) -> int:
        """Forget items; unknown ones are ignored."""
        return self._index.delete(fps)
