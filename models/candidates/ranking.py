"""Ordering inside sources of candidates (7): the best of each user's row of keys, and counts of names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


def largest(keys: I64, count: int) -> I64:
    """int64[U, <= count] of int64[U, w]: each row's largest keys, largest first. Keys of a row are distinct
    but for negative ones, which stand for none."""
    if keys.shape[1] > count:
        keys = np.partition(keys, keys.shape[1] - count, axis=1)[:, keys.shape[1] - count :]
    return np.sort(keys, axis=1)[:, ::-1]


NAME_BITS = 16


def most_named(named: I32, users: int, count: int) -> I32:
    """int32[users, <= count]: per user the names given most often, by (times desc, name asc); -1 = fewer.

    `named` int32[m]: user << NAME_BITS | name, names below 65,535; it is sorted in place.
    """
    named.sort()
    begins = np.flatnonzero(_changes(named))
    times = np.empty(len(begins), np.int64)
    times[:-1], times[-1:] = begins[1:] - begins[:-1], len(named) - begins[-1:]
    distinct = named[begins].astype(np.int64)
    # ascending by user, and inside a user by (times desc, rank asc)
    order = ((distinct >> 16) << 40) | (((1 << 23) - 1 - times) << 16) | (distinct & 0xFFFF)
    order.sort()
    each = np.bincount(order >> 40, minlength=users)
    first = np.cumsum(each) - each
    place = np.arange(min(count, int(each.max())))
    inside = place < each[:, None]
    at = np.where(inside, first[:, None] + place, 0)
    if not len(order):
        return np.full(at.shape, -1, np.int32)
    return np.where(inside, order[at] & 0xFFFF, -1).astype(np.int32)


def _changes(values: NDArray[np.int32]) -> NDArray[np.bool_]:
    """bool[m]: which of sorted values differ from the one before."""
    changes = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=changes[1:])
    return changes
