"""Parts of entries that are made once and kept by number (11): by an item's slot, by a reason's code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
Part = TypeVar("Part")


class KeptParts(Generic[Part]):
    """Something by whole number from 0. Where over `kept_max` are there, all are dropped and made again.

    An array of objects: of the thousands that a slice needs, few are in the processor's caches after ranking,
    and numpy waits for many of them at once where a loop in Python waits for one after the other.

    >>> parts = KeptParts[bytes](1_000)
    >>> parts.take(np.array([3, 0, 3]), lambda number: b"part %d" % number)
    [b'part 3', b'part 0', b'part 3']
    """

    def __init__(self, kept_max: int) -> None:
        self._kept_max = kept_max
        self._parts: NDArray[np.object_] = np.empty(0, np.object_)
        self._known: NDArray[np.bool_] = np.zeros(0, np.bool_)

    def take(self, numbers: I64, made: Callable[[int], Part]) -> list[Part]:
        """The part of each number; `made` makes those that are not there yet."""
        if len(numbers):
            self._reach(int(numbers.max()) + 1)
        known = self._known.take(numbers)
        if not known.all():
            if np.count_nonzero(self._known) >= self._kept_max:
                self.clear()
                known = self._known.take(numbers)
            for number in np.unique(numbers[~known]).tolist():
                self._parts[number] = made(number)
                self._known[number] = True
        found: list[Part] = self._parts.take(numbers).tolist()
        return found

    def forget(self, numbers: NDArray[np.signedinteger]) -> None:
        """These say something else now; those that were never there (-1, too) do no harm."""
        there = numbers[(numbers >= 0) & (numbers < len(self._known))]
        self._parts[there], self._known[there] = None, False

    def clear(self) -> None:
        """Forget all."""
        self._parts, self._known = np.empty_like(self._parts), np.zeros_like(self._known)

    def _reach(self, numbers: int) -> None:
        """Have room for so many numbers; pages that nothing is written to cost nothing."""
        if numbers > len(self._parts):
            size, before = max(numbers, 2 * len(self._parts)), len(self._parts)
            parts, known = np.empty(size, np.object_), np.zeros(size, np.bool_)
            parts[:before], known[:before] = self._parts, self._known
            self._parts, self._known = parts, known
