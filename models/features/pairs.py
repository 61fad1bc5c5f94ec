"""Which of many (user, fingerprint) pairs are among the slice's own (8, 10): seen items, follows, ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.postings import Postings

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

KEY_BITS = 48
CELL_BITS = 12
"""Per user 4,096 cells: nearly all of some hundred keys have one of their own."""

_CELL_MASK = np.uint64((1 << CELL_BITS) - 1)
_NONE: I64 = np.zeros(0, np.int64)


class Asked(NamedTuple):
    """n (user, key) pairs: `pair` uint64[n], user << 48 | key, and `cell` int64[n]."""

    pair: U64
    cell: I64


class Pairs:
    """A set of (user, key) pairs: keys are parts of fingerprints, so that their lowest bits are as good as a
    hash. Each cell has one pair; those whose cell another one has stand in a sorted rest.

    >>> pairs = Pairs(2, np.array([0, 1]), np.array([7, 9], np.uint64))
    >>> keys = np.array([7, 9, 7, 9], np.uint64)
    >>> [part.tolist() for part in pairs.find(asked(np.array([0, 0, 1, 1]), keys))]
    [[0, 3], [0, 1]]
    """

    def __init__(self, users: int, user: I64, key: U64) -> None:
        self._pair, cell = asked(user, key)
        count = len(self._pair)
        if not count:
            return
        self._table = np.zeros(users << CELL_BITS, np.int32)
        self._table[cell] = np.arange(1, count + 1)
        owner = self._table.take(cell) - 1
        lost = (self._pair != self._pair.take(owner)).nonzero()[0]
        lost = lost[self._pair.take(lost).argsort()]
        self._rest, self._rest_which = self._pair.take(lost), lost

    @classmethod
    def of(cls, keys: Sequence[U64], bits: int = 0) -> Pairs:
        """Of one array of keys (below 2^48, behind so many other bits) per user."""
        user = np.arange(len(keys)).repeat(list(map(len, keys)))
        return cls(len(keys), user, np.concatenate(keys) >> np.uint64(bits))

    def __len__(self) -> int:
        return len(self._pair)

    def find(self, wanted: Asked) -> tuple[I64, I64]:
        """Places int64[h] in `wanted` that are pairs of the set, and which ones int64[h] (of equal pairs any
        one of them)."""
        if not len(self._pair):
            return _NONE, _NONE
        owner = self._table.take(wanted.cell)
        place = (owner != 0).nonzero()[0]
        which, pair = owner.take(place) - 1, wanted.pair.take(place)
        equal = self._pair.take(which) == pair
        if len(self._rest):
            others = (~equal).nonzero()[0]
            at = self._rest.searchsorted(pair.take(others))
            at[at == len(self._rest)] = 0
            hit = (self._rest.take(at) == pair.take(others)).nonzero()[0]
            which[others.take(hit)] = self._rest_which.take(at.take(hit))
            equal[others.take(hit)] = True
        found = equal.nonzero()[0]
        return place.take(found), which.take(found).astype(np.int64)


def asked(user: I64, key: U64) -> Asked:
    """Pairs of user numbers and keys (uint64, below 2^48), to be looked for; of shapes that go together."""
    pair = user.astype(np.uint64) << np.uint64(KEY_BITS) | key
    cell = (user << CELL_BITS) + (key & _CELL_MASK).view(np.int64)
    return Asked(pair.reshape(-1), cell.reshape(-1))


def pair_codes(groups: Postings, user: I64, group: I32, asked: I32) -> tuple[I32, I32]:
    """Codes 1..m of m pairs (user int64[m], group int32[m] >= 0), equal pairs the same one; and int32[U, C]:
    the codes of the pairs (u, asked[u, c]), 0 where that is none of them.

    >>> groups = Postings(48, 1, 1, lambda item: (0, 0))
    >>> user, group = np.array([0, 1]), np.array([7, 9])
    >>> [codes.tolist() for codes in pair_codes(groups, user, group, np.array([[7], [7]]))]
    [[1, 2], [[1], [0]]]
    """
    own, theirs = groups.numbered(group, group, asked)
    width = int(own.max(initial=0)) + 1
    table = np.zeros(len(asked) * width, np.int32)
    cell = user * width + own
    table[cell] = np.arange(1, len(group) + 1)
    first = np.arange(len(asked)) * width
    return table.take(cell), table.take(theirs + first[:, None])
