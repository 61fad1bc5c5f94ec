"""Key index (2, 5): uint64 keys to int32 slots in two numpy arrays, asked and changed many keys at a time.

Open addressing with linear probing. A Python dict costs about 110 bytes per key; this costs 20 to 40.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

LOAD_PERCENT_MAX = 60
LOAD_PERCENT_FAST = 25
"""For indexes asked thousands of keys per feed: a third of the time for two to three times the bytes."""
CAPACITY_MIN = 16
PROBED_ALONE_MAX = 8
"""The last few keys of many are looked for one by one: a step of all of them costs as much as this."""

SLOT_MAX = (1 << 31) - 3

_MIX = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: spreads keys of which only some bits vary
_UINT64 = (1 << 64) - 1
_EMPTY = 0  # in _slots; a key holds its slot + 1


class HashIndex:
    """A map from uint64 keys to slots 0..SLOT_MAX. Missing keys read as -1.

    `reserve`: that many keys fit without a rehash (pages not yet touched cost no memory). `load_percent`:
    the part of the places that may be used before the arrays double.

    >>> index = HashIndex()
    >>> index.insert([7, 9], [0, 1])
    >>> index.get([9, 8, 7]).tolist()
    [1, -1, 0]
    >>> index.delete([9])
    1
    >>> len(index), index.get_one(9)
    (1, -1)
    """

    def __init__(self, reserve: int = 0, load_percent: int = LOAD_PERCENT_MAX) -> None:
        self._live = 0
        self._load_percent = load_percent
        self._allocate(self._capacity_for(reserve))

    def __len__(self) -> int:
        return self._live

    @property
    def arrays(self) -> tuple[U64, I32]:
        """Keys and slots by place, used all over from the first keys on."""
        return self._keys, self._slots

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self._keys.nbytes + self._slots.nbytes

    def get(self, keys: ArrayLike) -> I32:
        """int32[k]: the slot of each of k keys, -1 where it is missing."""
        keys_ = np.asarray(keys, np.uint64)
        at = self._home(keys_)
        slots: I32 = self._slots.take(at)
        found = self._keys.take(at) == keys_
        todo = (found < (slots != _EMPTY)).nonzero()[0]  # an empty place ends the search, whatever its key
        slots *= found
        slots -= 1
        at, keys_ = at.take(todo), keys_.take(todo)
        while todo.size > PROBED_ALONE_MAX:
            at = (at + 1) & self._mask
            held = self._slots.take(at)
            found = self._keys.take(at) == keys_
            slots[todo] = held * found - 1
            on = (found < (held != _EMPTY)).nonzero()[0]
            todo, at, keys_ = todo.take(on), at.take(on), keys_.take(on)
        for place, key in zip(todo.tolist(), keys_.tolist(), strict=True):
            slots[place] = self.get_one(key)
        return slots

    def get_one(self, key: int) -> int:
        """The slot of one key, or -1: about ten times cheaper than an array of one."""
        return int(self._slots.item(self._find_one(key))) - 1

    def insert(self, keys: ArrayLike, slots: ArrayLike) -> None:
        """Set k keys to k slots (>= 0); of a key given twice the last slot counts.

        Raises ValueError for a slot outside 0..SLOT_MAX.
        """
        keys_, slots_ = np.asarray(keys, np.uint64), np.asarray(slots, np.int64)
        if slots_.size and not 0 <= slots_.min() <= slots_.max() <= SLOT_MAX:
            raise ValueError(f"a slot is outside 0..{SLOT_MAX}; give row numbers")
        at = self._find(keys_)
        known = at >= 0
        self._slots[at[known]] = slots_[known] + 1
        if known.all():
            return
        # np.unique keeps the first of equals, so it is given the new keys last to first
        fresh, first = np.unique(keys_[~known][::-1], return_index=True)
        if (self._live + len(fresh)) * 100 > len(self._keys) * self._load_percent:
            self._rehash(self._live + len(fresh))
        self._place(fresh, (slots_[~known][::-1][first] + 1).astype(np.int32))

    def insert_one(self, key: int, slot: int) -> None:
        """Set one key, many times cheaper than an array of one."""
        at = self._find_one(key)
        if self._slots.item(at) == _EMPTY:
            if (self._live + 1) * 100 > len(self._keys) * self._load_percent:
                self._rehash(self._live + 1)
                at = self._find_one(key)
            self._keys[at] = key
            self._live += 1
        self._slots[at] = slot + 1

    def delete(self, keys: ArrayLike) -> int:
        """Remove keys; missing ones are ignored. Returns how many were there."""
        found = np.unique(np.asarray(keys, np.uint64))
        found = found[self._probe(found)[1]]
        for key in found.tolist():  # one after the other: each removal moves others
            self._close(self._find_one(key))
        self._live -= len(found)
        return len(found)

    def _allocate(self, capacity: int) -> None:
        self._keys: U64 = np.zeros(capacity, np.uint64)
        self._slots: I32 = np.zeros(capacity, np.int32)
        self._mask = capacity - 1
        self._shift = 64 - self._mask.bit_length()

    def _rehash(self, keys: int) -> None:
        held = self._slots > 0
        old_keys, old_slots = self._keys[held], self._slots[held]
        self._allocate(self._capacity_for(keys))
        self._live = 0
        self._place(old_keys, old_slots)

    def _capacity_for(self, keys: int) -> int:
        capacity = CAPACITY_MIN
        while keys * 100 > capacity * self._load_percent:
            capacity *= 2
        return capacity

    def _home(self, keys: U64) -> I64:
        return ((keys * np.uint64(_MIX)) >> np.uint64(self._shift)).view(np.int64)

    def _find(self, keys: U64) -> I64:
        """int64[k]: where each key stands in the arrays, -1 for a missing one."""
        at, found = self._probe(keys)
        return np.where(found, at, -1)

    def _probe(self, keys: U64) -> tuple[I64, NDArray[np.bool_]]:
        """Where the search for each key ended, int64[k], and whether it found the key, bool[k]."""
        ended = self._home(keys)
        slots = self._slots.take(ended)
        found = self._keys.take(ended) == keys
        found &= slots > 0
        todo = np.flatnonzero(found < (slots != _EMPTY))
        at, keys = ended[todo], keys[todo]
        while todo.size:
            at = (at + 1) & self._mask
            slots = self._slots.take(at)
            hit = (self._keys.take(at) == keys) & (slots > 0)
            go_on = np.flatnonzero(hit < (slots != _EMPTY))
            if len(go_on) < len(todo):
                ended[todo], found[todo] = at, hit
                todo, at, keys = todo[go_on], at[go_on], keys[go_on]
        return ended, found

    def _find_one(self, key: int) -> int:
        """Where the search for a key ends: at the key, or at the empty place where it would be."""
        at = ((key * _MIX) & _UINT64) >> self._shift
        while self._slots.item(at) != _EMPTY and self._keys.item(at) != key:
            at = (at + 1) & self._mask
        return at

    def _close(self, hole: int) -> None:
        """Empty a place and move up those behind it that would not be found any more (Knuth 6.4, R).

        So keys that come and go leave nothing behind, and the arrays are only ever rebuilt to grow.
        """
        at = hole
        while self._slots.item(at := (at + 1) & self._mask) != _EMPTY:
            key = self._keys.item(at)
            home = ((key * _MIX) & _UINT64) >> self._shift
            if (at - home) & self._mask >= (at - hole) & self._mask:
                self._keys[hole], self._slots[hole] = key, self._slots[at]
                hole = at
        self._slots[hole] = _EMPTY

    def _place(self, keys: U64, stored: I32) -> None:
        """Put distinct keys, none of them present, into empty places."""
        self._live += len(keys)
        at = self._home(keys)
        while keys.size:
            empty = self._slots[at] == _EMPTY
            self._keys[at[empty]] = keys[empty]  # of keys that want one place the last wins ...
            won = empty & (self._keys[at] == keys)
            self._slots[at[won]] = stored[won]
            lost = ~won  # ... and the others go on to the next place
            keys, stored, at = keys[lost], stored[lost], (at[lost] + 1) & self._mask
