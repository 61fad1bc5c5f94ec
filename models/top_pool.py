"""The k largest of many (5): fed in slices, exact, and the same whatever the slices were."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


class TopPool:
    """Keeps the `size` items with the largest (score, fp).

    >>> pool = TopPool(2)
    >>> pool.add(np.array([5, 7, 5]), np.array([1, 2, 3], np.uint64), np.array([10, 20, 30], np.int32))
    >>> pool.ranked().tolist()
    [20, 30]
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._score: I64 = np.zeros(0, np.int64)
        self._fp: U64 = np.zeros(0, np.uint64)
        self._item: I32 = np.zeros(0, np.int32)

    def add(self, score: I64, fp: U64, item: I32) -> None:
        """Offer n items: int64[n] scores, uint64[n] fingerprints (ties), int32[n] items."""
        score = np.concatenate([self._score, score])
        fp = np.concatenate([self._fp, fp])
        item = np.concatenate([self._item, item])
        if len(score) > self._size:
            keep = _largest(score, fp, self._size)
            score, fp, item = score[keep], fp[keep], item[keep]
        self._score, self._fp, self._item = score, fp, item

    def ranked(self) -> I32:
        """int32[<= size]: the items, largest (score, fp) first."""
        return self._item[np.lexsort((self._fp, self._score))[::-1]]


def _largest(score: I64, fp: U64, size: int) -> NDArray[np.intp]:
    """Positions of the `size` largest by (score, fp), without sorting all."""
    if size == 0:
        return np.zeros(0, np.intp)
    bound = np.partition(score, len(score) - size)[len(score) - size]
    above, ties = np.flatnonzero(score > bound), np.flatnonzero(score == bound)
    wanted = size - len(above)
    if wanted < len(ties):
        ties = ties[np.argpartition(fp[ties], len(ties) - wanted)[len(ties) - wanted :]]
    return np.concatenate([above, ties])
