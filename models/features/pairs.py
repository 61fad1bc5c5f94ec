"""Which of many (user, fingerprint) pairs are among the slice's own (8, 10): seen items, follows, ..."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.postings import Postings

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

KEY_BITS = 48
TABLE_BITS_MIN, TABLE_BITS_MAX = 10, 20
ROOM_BITS = 3
"""The table has 8 to 16 cells per pair, so that nearly all pairs have a cell of their own."""

_MIX = np.uint64(0x9E3779B97F4A7C15)
_NOBODY = np.uint64((1 << 64) - 1)  # no user has the number 2^16 - 1
_NONE: I64 = np.zeros(0, np.int64)


class Pairs:
    """A set of pairs, by hash: one cell each. Those whose cell another one has stand in a sorted rest.

    >>> pairs = Pairs(np.array([0, 1]), np.array([7, 9], np.uint64))
    >>> [part.tolist() for part in pairs.find(pair_keys(2, np.array([[7, 9], [7, 9]], np.uint64)))]
    [[0, 3], [0, 1]]
    """

    def __init__(self, user: I64, key: U64) -> None:
        self._build((user.astype(np.uint64) << np.uint64(KEY_BITS)) | key)

    @classmethod
    def of(cls, keys: Sequence[U64]) -> Pairs:
        """Of one array of keys (below 2^48) per user."""
        sizes = [len(k) for k in keys]
        if not any(sizes):
            return cls(_NONE, np.zeros(0, np.uint64))
        return cls(np.repeat(np.arange(len(keys)), sizes), np.concatenate(keys))

    def __len__(self) -> int:
        return self._count

    def find(self, wanted: U64) -> tuple[I64, I64]:
        """Flat places int64[h] in `wanted` (made by `pair_keys`, any shape) that are pairs of the set, and
        which ones int64[h] (of equal pairs any one of them)."""
        if not self._count:
            return _NONE, _NONE
        wanted = wanted.reshape(-1)
        which = self._table.take(self._hash(wanted))
        equal = self._pair.take(which) == wanted
        place = np.flatnonzero(equal)
        found = which.take(place)
        if not len(self._rest):
            return place, found
        asked = np.flatnonzero(self._shared.take(which) & ~equal)
        at = np.searchsorted(self._rest, wanted.take(asked))
        at[at == len(self._rest)] = 0
        hit = self._rest[at] == wanted[asked]
        return np.concatenate([place, asked[hit]]), np.concatenate([found, self._rest_which[at[hit]]])

    def _build(self, pair: U64) -> None:
        count = self._count = len(pair)
        if not count:
            return
        bits = min(max(count.bit_length() + ROOM_BITS, TABLE_BITS_MIN), TABLE_BITS_MAX)
        self._shift = np.uint64(64 - bits)
        self._pair = np.empty(count + 1, np.uint64)
        self._pair[:count] = pair
        self._pair[count] = _NOBODY
        self._table = np.full(1 << bits, count)
        cells = self._hash(pair)
        self._table[cells] = np.arange(count)
        owner = self._table.take(cells)
        lost = np.flatnonzero(pair != pair.take(owner))
        self._rest = pair[lost]
        if len(lost):
            order = np.argsort(self._rest)
            self._rest, self._rest_which = self._rest[order], lost[order]
            self._shared = np.zeros(count + 1, np.bool_)
            self._shared[owner[lost]] = True

    def _hash(self, pair: U64) -> I64:
        return ((pair * _MIX) >> self._shift).view(np.int64)


def pair_codes(groups: Postings, user: I64, group: I32, asked: I32) -> tuple[I32, I32]:
    """Codes 1..m of m pairs (user int64[m], group int32[m] >= 0), equal pairs the same one; and int32[U, C]:
    the codes of the pairs (u, asked[u, c]), 0 where that is none of them.

    >>> groups = Postings(48, 1, 1, lambda item: (0, 0))
    >>> user, group = np.array([0, 1]), np.array([7, 9])
    >>> [codes.tolist() for codes in pair_codes(groups, user, group, np.array([[7], [7]]))]
    [[1, 2], [[1], [0]]]
    """
    own, theirs = groups.numbered(group, group, asked)
    width = len(group) + 1
    table = np.zeros(len(asked) * width, np.int32)
    cell = user * width + own
    table[cell] = np.arange(1, width)
    first = np.arange(len(asked)) * width
    return table.take(cell), table.take(theirs + first[:, None])


def pair_keys(users: int, keys: U64) -> U64:
    """uint64[U, ...]: keys (below 2^48) of user 0, 1, ... as pairs."""
    first = np.arange(users, dtype=np.uint64) << np.uint64(KEY_BITS)
    return first.reshape(-1, *[1] * (keys.ndim - 1)) | keys
