"""Sums of the counts of live items (5), by author, by topic and of all: the priors of smoothed rates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.postings import COUNT_COLUMNS, WINDOWS, Postings

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class Statistics:
    """Integer sums, changed with each item, so that they never depend on an order.

    `total` int64[3, 5]: all live items; by author and topic they stand in `Postings.sums`. `examined`: of all
    live items, impressions weighted by place (units of 1/16). `changes` grows with every change.
    """

    def __init__(self, authors: Postings, topics: Postings) -> None:
        self.total: I64 = np.zeros((WINDOWS, COUNT_COLUMNS), np.int64)
        self.examined = 0
        self._authors, self._topics = authors, topics
        self.changes = 0

    def add(self, sign: int, derived: NDArray[np.void], authors: I32, topics: I32) -> None:
        """k items join (`sign` 1) or leave (-1): records, authors int32[k], topics int32[k, 4] (-1 = no)."""
        self.changes += 1
        counts = sign * np.stack([derived[window] for window in ("h1", "h24", "d7")], axis=1).astype(np.int64)
        self.total += counts.sum(axis=0)
        self.examined += sign * int(derived["examined"].sum())
        np.add.at(self._authors.sums, authors, counts)
        item, place = np.nonzero(topics >= 0)
        np.add.at(self._topics.sums, topics[item, place], counts[item])
