"""Ranked lists against what came of them: NDCG, MRR, recall, hits, one value per query.

Rows belong to queries; within a query they are ranked by score, best first, equal ones by `tie` (a hash of
the item, say; never the order in which they were shown: it tells what the old ranking thought).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Lists:
    """Rows of q queries, ranked. `order` int64[n]: rows, query after query, best first; `query` int64[n] (0
    to q - 1) and `rank` int64[n] (0-based) of each place in `order`; `names` int64[q]: as given."""

    order: I64
    query: I64
    rank: I64
    names: I64

    @property
    def count(self) -> int:
        """How many queries."""
        return len(self.names)

    def per_query(self, values: F64) -> F64:
        """float64[q]: sums of values float64[n], which stand in the order of `order`."""
        sums: F64 = np.bincount(self.query, values, self.count).astype(np.float64)
        return sums

    def top(self, k: int) -> I64:
        """Rows that are among the first k of their query."""
        return self.order[self.rank < k]


def ranked(query: NDArray[np.integer], score: F64, tie: U64) -> Lists:
    """Rank n rows. Raises ValueError for scores that are NaN: nothing ranks them."""
    if np.isnan(score).any():
        raise ValueError(f"{int(np.isnan(score).sum())} scores are NaN; the model is broken")
    names, number = np.unique(query, return_inverse=True)
    order = np.lexsort((tie, -score, number))
    number = number[order].astype(np.int64)
    starts = np.searchsorted(number, np.arange(len(names)))
    rank = np.arange(len(order)) - starts[number] if len(order) else np.zeros(0, np.int64)
    return Lists(order, number, rank, names.astype(np.int64))


def ndcg(lists: Lists, relevance: F64, k: int) -> F64:
    """float64[q]: gain 2^relevance - 1, discount 1 / log2(rank + 2); nan where nothing is relevant.

    Järvelin and Kekäläinen, TOIS 2002; the gain of Burges et al., ICML 2005.
    """
    gain = np.exp2(relevance) - 1.0
    if (gain < 0).any():
        raise ValueError("relevance is negative; clip it at 0")
    discount = np.where(lists.rank < k, 1.0 / np.log2(lists.rank + 2.0), 0.0)
    got = lists.per_query(gain[lists.order] * discount)
    ideal_order = np.lexsort((-gain[lists.order], lists.query))
    ideal = lists.per_query(gain[lists.order][ideal_order] * discount)
    return _ratio(got, ideal)


def reciprocal_rank(lists: Lists, relevant: NDArray[np.bool_]) -> F64:
    """float64[q]: 1 / rank of the first relevant row, 0 where there is none."""
    first = np.full(lists.count, np.inf)
    hit = relevant[lists.order]
    np.minimum.at(first, lists.query[hit], lists.rank[hit] + 1.0)
    return 1.0 / first


def recall(lists: Lists, relevant: NDArray[np.bool_], k: int, wanted: F64 | None = None) -> F64:
    """float64[q]: share of the relevant rows among the first k; nan where there are none.

    `wanted` float64[q]: how many are relevant in truth, where some are not among the rows.
    """
    hit = relevant[lists.order].astype(np.float64)
    found = lists.per_query(hit * (lists.rank < k))
    total = lists.per_query(hit) if wanted is None else wanted
    return _ratio(found, total)


def _ratio(top: F64, bottom: F64) -> F64:
    out = np.full(len(top), np.nan)
    there = bottom > 0
    out[there] = top[there] / bottom[there]
    return out
