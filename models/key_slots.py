"""Keys of any 1 to 128 bytes to slots (2): a batch is looked up in few numpy calls, and checked by bytes.

The key index holds fingerprints; the first 32 bytes of each key stand beside it. A Python dict
costs 300 ns per cold key, as each look-up waits for memory on its own; this costs about 130.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.fingerprint import fp64s
from models.hash_index import HashIndex

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

HEAD_BYTES = 32
INDEXED_MAX = 150_000
"""Keys that the index has room for from the start, in 3 MB: a rehash of 80,000 takes 5 ms of a slice."""
_ALL_WORDS = 0x01010101  # four times True: a head is four words


class KeySlots:
    """A map from keys to slots below `slots_max`, -1 = missing; and back: `key_slots[slot]`.

    All slots ever used are below `top`.
    """

    def __init__(self, slots_max: int, fingerprints: Callable[[Iterable[bytes]], U64] = fp64s) -> None:
        self.top = 0
        self._fingerprints = fingerprints
        self._index = HashIndex(min(slots_max, INDEXED_MAX))
        self._heads = np.zeros(slots_max, f"V{HEAD_BYTES}")  # reserved; memory is used as slots are
        self._long: dict[int, bytes] = {}  # keys that their padded head does not tell
        self._is_long = np.zeros(slots_max, np.bool_)
        self._clashes: dict[bytes, int] = {}  # keys whose fingerprint another key had before
        self.live = np.zeros(slots_max, np.bool_)
        self._count = 0

    def reserved(self) -> list[tuple[NDArray[Any], int]]:
        """See Arena.reserved."""
        return [(self._heads, self.top), *((array, len(array)) for array in self._index.arrays)]

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.keys_at(np.flatnonzero(self.live[: self.top])))

    def __getitem__(self, slot: int) -> bytes:
        """The key at a slot; of a removed one until the slot is used again."""
        return self._long.get(slot) or bytes(self._heads.view(f"S{HEAD_BYTES}")[slot])

    def keys_at(self, slots: I64) -> list[bytes]:
        """The keys at these slots."""
        keys: list[bytes] = self._heads.view(f"S{HEAD_BYTES}")[slots].tolist()
        if self._long:
            return [self._long.get(slot, key) for slot, key in zip(slots.tolist(), keys, strict=True)]
        return keys

    def find(self, keys: Sequence[bytes]) -> I64:
        """Slots int64[n] of n keys."""
        return self._find(keys, self._fingerprints(keys))

    def _find(self, keys: Sequence[bytes], fps: U64) -> I64:
        if not len(keys):
            return np.empty(0, np.int64)
        slots = self._index.get(fps).astype(np.int64)
        heads = _heads(keys)
        words: NDArray[np.bool_] = self._heads[slots].view(np.uint64) == heads.view(np.uint64)
        same = words.view(np.uint32) == _ALL_WORDS
        # A key of 32 bytes or more, or with NUL at its end, may equal another one in its padded head.
        doubtful = heads.view(np.uint8).reshape(-1, HEAD_BYTES)[:, -1] != 0
        if self._long:
            doubtful |= self._is_long[slots]
        if b"\0" in b"".join(keys):
            told = np.strings.str_len(heads.view(f"S{HEAD_BYTES}"))  # without NULs at the end
            doubtful |= told < np.fromiter(map(len, keys), np.int64, len(keys))
        for i in np.flatnonzero(same & doubtful).tolist():
            same[i] = slots[i] >= 0 and self[int(slots[i])] == keys[i]
        slots[~same] = -1
        if self._clashes:
            for i in np.flatnonzero(slots < 0).tolist():
                slots[i] = self._clashes.get(keys[i], -1)
        return slots

    def add(self, keys: list[bytes], slots: list[int]) -> U64:
        """Put distinct keys that are not here at free slots; returns their fingerprints."""
        fps = self._fingerprints(keys)
        at = np.array(slots, np.int64)
        for slot, key in zip(slots, keys, strict=True):
            self._long.pop(slot, None)
            if len(key) > HEAD_BYTES or key.endswith(b"\0"):
                self._long[slot] = key
        if keys:
            self._heads[at] = _heads(keys)
            self._is_long[at] = [slot in self._long for slot in slots]
            self.top = max(self.top, int(at.max()) + 1)
        first = np.zeros(at.size, np.bool_)
        first[np.unique(fps, return_index=True)[1]] = True
        first &= self._index.get(fps) < 0
        self._index.insert(fps[first], at[first])
        for i in np.flatnonzero(~first).tolist():
            self._clashes[keys[i]] = slots[i]
        self.live[at] = True
        self._count += len(keys)
        return fps

    def remove(self, slots: I64) -> None:
        """Forget the keys at these slots."""
        keys = self.keys_at(slots)
        held = np.array([self._clashes.pop(key, -1) < 0 for key in keys], np.bool_)
        self._index.delete(self._fingerprints(keys)[held])
        self.live[slots] = False
        self._count -= len(keys)


def _heads(keys: Sequence[bytes]) -> NDArray[np.void]:
    """V32[n]: keys cut or padded with NUL to 32 bytes."""
    return np.array(keys, f"S{HEAD_BYTES}").view(f"V{HEAD_BYTES}")
