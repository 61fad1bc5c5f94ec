"""What lists are made of: coverage of the catalogue, variety of authors and topics, novelty."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.evaluation.lists import Lists

F64 = NDArray[np.float64]
Codes = NDArray[np.int64]


def coverage(lists: Lists, item: Codes, k: int) -> float:
    """Share of all items int64[n] (codes) that are in some list's first k."""
    everything = len(np.unique(item))
    return len(np.unique(item[lists.top(k)])) / everything if everything else float("nan")


def distinct(lists: Lists, code: Codes, k: int) -> F64:
    """float64[q]: different codes (authors, topics; int64[n]) among the first k, over how many there are."""
    rows = lists.rank < k
    pairs = np.unique(np.stack([lists.query[rows], code[lists.order[rows]]]), axis=1)
    kinds = np.bincount(pairs[0], minlength=lists.count)
    count = np.bincount(lists.query[rows], minlength=lists.count)
    share: F64 = kinds / np.maximum(count, 1)
    return share


def novelty(lists: Lists, share: F64, k: int) -> F64:
    """float64[q]: mean -log2 of `share` float64[n] > 0: how often an item was shown before, of all."""
    rows = lists.rank < k
    surprise = -np.log2(share[lists.order[rows]])
    total = np.bincount(lists.query[rows], surprise, lists.count)
    mean: F64 = total / np.maximum(np.bincount(lists.query[rows], minlength=lists.count), 1)
    return mean
