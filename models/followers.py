"""Who follows an author, among the users in memory (6): an item that comes makes them due."""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

U32 = NDArray[np.uint32]

FANOUT_MAX = 5_000
"""Active followers of an author up to which a new item makes them due; above, they see it at their visit."""
CROWD_MIN = 1_000
"""Followers of an author above which (and above the limit of fan-out) they are kept as bits."""


class Followers:
    """For new items: the active users (arena slots) who follow an author (fp48).

    4 bytes an edge and about 200 bytes an author with active followers: below 8 bytes an edge from 50 active
    followers an author on average. Followers of an author with very many are bits (`_Crowd`). A user who
    stops being active must be removed with the same follows.
    """

    def __init__(self, fanout_max: int = FANOUT_MAX) -> None:
        self.edges = 0
        self._fanout_max, self._crowd_min = fanout_max, max(fanout_max, CROWD_MIN)
        self._slots: dict[int, array[int] | _Crowd] = {}

    def add(self, slot: int, authors: Iterable[int]) -> None:
        """An active user follows these authors (known edges are ignored)."""
        for author in authors:
            slots = self._slots.get(author)
            if slots is None:
                self._slots[author] = array("I", (slot,))
            elif isinstance(slots, _Crowd):
                self.edges += slots.add(slot)
                continue
            elif slots[-1] < slot:
                slots.append(slot)
            elif slots[bisect_left(slots, slot)] == slot:
                continue
            else:
                insort(slots, slot)
            self.edges += 1
            if slots is not None and len(slots) > self._crowd_min:
                self._slots[author] = _Crowd(np.array(slots, np.uint32))

    def remove(self, slot: int, authors: Iterable[int]) -> None:
        """The user unfollowed these authors or is not active any more (unknown edges are ignored)."""
        for author in authors:
            slots = self._slots.get(author)
            if slots is None:
                continue
            if isinstance(slots, _Crowd):
                self.edges -= slots.remove(slot)
                if len(slots) <= self._crowd_min // 2:
                    self._slots[author] = array("I", slots.slots().tolist())
                continue
            at = bisect_left(slots, slot)
            if at < len(slots) and slots[at] == slot:
                del slots[at]
                self.edges -= 1
                if not slots:
                    del self._slots[author]

    def followed(self, authors: Iterable[int]) -> list[int]:
        """Those whom any active user follows."""
        return [author for author in authors if author in self._slots]

    def of(self, author: int) -> U32 | None:
        """uint32[k]: slots in ascending order; None for an author above FANOUT_MAX: read at visit."""
        slots = self._slots.get(author)
        if slots is None:
            return np.zeros(0, np.uint32)
        if len(slots) > self._fanout_max:
            return None
        return slots.slots() if isinstance(slots, _Crowd) else np.array(slots, np.uint32)


class _Crowd:
    """Slots as bits: none has to move when one comes or goes, and any other slot costs one too."""

    def __init__(self, slots: U32) -> None:
        bits = np.zeros(int(slots.max()) + 1, np.bool_)
        bits[slots] = True
        self._bits = bytearray(np.packbits(bits, bitorder="little"))
        self._count = slots.size

    def __len__(self) -> int:
        return self._count

    def add(self, slot: int) -> bool:
        """Whether it was not there."""
        byte, bit = slot >> 3, 1 << (slot & 7)
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1 - len(self._bits)))
        new = not self._bits[byte] & bit
        self._bits[byte] |= bit
        self._count += new
        return new

    def remove(self, slot: int) -> bool:
        """Whether it was there."""
        byte, bit = slot >> 3, 1 << (slot & 7)
        gone = byte < len(self._bits) and bool(self._bits[byte] & bit)
        if gone:
            self._bits[byte] ^= bit
            self._count -= 1
        return gone

    def slots(self) -> U32:
        """uint32[k], ascending."""
        return np.flatnonzero(np.unpackbits(np.frombuffer(self._bits, np.uint8), bitorder="little")).astype(
            np.uint32
        )
