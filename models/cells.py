"""Topic cells (5): the newest items of topics with their embeddings side by side, for matrix products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.item_columns import EMBEDDING_DIM, ItemColumns
from models.postings import Postings

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

CELL_ITEMS_MAX = 1_000
CELLS_BYTES_MAX = 64 << 20


class Cells:
    """The `depth` newest items of each topic asked for; as many topics as fit into CELLS_BYTES_MAX.

    A cache over columns: what is read here depends on the live set only.
    `items` int32[cells, depth], newest first, -1 after the last; `embedding` float32[cells, depth, 64].
    """

    def __init__(self, columns: ItemColumns, topics: Postings, depth: int) -> None:
        self._columns, self._topics = columns, topics
        self._cell_of: dict[int, int] = {}
        self._changes: list[int] = []
        cells = max(64, CELLS_BYTES_MAX // (depth * EMBEDDING_DIM * 4))
        self.items: I32 = np.zeros((cells, depth), np.int32)
        self.embedding: NDArray[np.float32] = np.zeros((cells, depth, EMBEDDING_DIM), np.float32)

    def of(self, topics: list[int]) -> list[int]:
        """The cells of up to 64 topics, filled or refreshed where items came or went."""
        changes = self._topics.changes
        cells = []
        for topic in topics:
            cell = self._cell_of.pop(topic, -1)
            if cell < 0 or self._changes[cell] != changes.item(topic):
                cell = self._fill(topic, self._place() if cell < 0 else cell)
            self._cell_of[topic] = cell  # the last asked for is the last to go
            cells.append(cell)
        return cells

    def _place(self) -> int:
        if len(self._changes) < len(self.items):
            self._changes.append(0)
            return len(self._changes) - 1
        return self._cell_of.pop(next(iter(self._cell_of)))

    def _fill(self, topic: int, cell: int) -> int:
        items = self._topics.window(topic, self.items.shape[1])
        self.items[cell, : len(items)], self.items[cell, len(items) :] = items, -1
        self.embedding[cell, : len(items)] = self._columns.embedding[items]
        self._changes[cell] = self._topics.changes.item(topic)
        return cell
