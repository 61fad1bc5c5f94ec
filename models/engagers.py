"""Who engaged with what (5): from users to the items that they recently engaged with.

For social proof and item-to-item. Made at each refresh from the items engaged with most recently; an item is
named by its place in that list, so that sums and ties are small integers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.hash_index import LOAD_PERCENT_FAST, HashIndex

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

ENGAGED_POOL_MAX = 32_768
"""Items, those with the largest (last_s, fp), that take part."""

ENGAGER_ITEMS_MAX = 8
"""Items kept per engager: those that come first in the pool."""

NO_RANK = 0xFFFF
_RANK_BITS = 16
_USER = ~np.uint64((1 << _RANK_BITS) - 1)
_POOL_SLICE = 4_096
_BUCKET_PAIRS = 32_768  # sorted in one slice


class EngagerTable:
    """fp48 of a user -> up to 8 places in `pool`, ascending.

    `pool` int32[m]: items by (last_s, fp), largest first. `ranks` uint16[engagers + 1, 8], NO_RANK where
    fewer; the last row, all NO_RANK, stands for everyone else.
    """

    def __init__(self) -> None:
        self.pool: I32 = np.zeros(0, np.int32)
        self.ranks: NDArray[np.uint16] = np.full((1, ENGAGER_ITEMS_MAX), NO_RANK, np.uint16)
        self._index = HashIndex()

    def of(self, users: U64) -> NDArray[np.uint16]:
        """uint16[k, 8]: places in the pool of k users given by the low 48 bits of their fingerprints."""
        return self.ranks.take(self._index.get(users), axis=0, mode="wrap")  # -1: the last row

    def fill(self, pool: I32, engagers: U64) -> Iterator[None]:
        """Build from the items of the pool and the engagers uint64[n, 16] of all slots (`fp48 << 16 | day`,
        0 = none); yields between slices."""
        self.pool = pool
        parts = []
        for start in range(0, len(pool), _POOL_SLICE):
            edges = engagers[pool[start : start + _POOL_SLICE]]
            rank = np.arange(start, start + len(edges), dtype=np.uint64)[:, None]
            parts.append((edges & _USER | rank)[edges != 0])
            yield
        users, ranks = [], []
        for part in _buckets(np.concatenate(parts) if parts else np.zeros(0, np.uint64)):
            user, rows = _rows(np.sort(part))
            users.append(user)
            ranks.append(rows)
            yield
        if not users:
            return
        self._index = HashIndex(sum(map(len, users)), LOAD_PERCENT_FAST)
        first = 0
        for user in users:
            self._index.insert(user, np.arange(first, first + len(user)))
            first += len(user)
            yield
        self.ranks = np.concatenate([*ranks, self.ranks])


def _buckets(pairs: U64) -> Iterator[U64]:
    """Split by the highest bits of the user, so that each part can be sorted in one slice."""
    bits = max(0, (len(pairs) // _BUCKET_PAIRS).bit_length())
    if bits == 0:
        yield pairs
        return
    bucket = (pairs >> np.uint64(64 - bits)).astype(np.uint16)
    for b in range(1 << bits):
        yield pairs[bucket == b]


def _rows(pairs: U64) -> tuple[U64, NDArray[np.uint16]]:
    """Sorted pairs as distinct users uint64[e] and their first 8 places uint16[e, 8]."""
    user = pairs >> np.uint64(_RANK_BITS)
    begins = np.flatnonzero(np.diff(user, prepend=user[:1] + np.uint64(1)))
    row = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(user)))
    place = np.arange(len(user)) - begins[row]
    kept = place < ENGAGER_ITEMS_MAX
    rows = np.full((len(begins), ENGAGER_ITEMS_MAX), NO_RANK, np.uint16)
    rows[row[kept], place[kept]] = (pairs[kept] & np.uint64(NO_RANK)).astype(np.uint16)
    return user[begins], rows
