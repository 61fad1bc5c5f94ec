"""Snapshot (2, 4): rows of an array as they are at one moment, copied bit by bit while they go on changing.

Copying all rows of a checkpoint at once would hold the loop for tens of milliseconds. So places wait until
they are copied, and whoever is about to change one that still waits has it copied first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

COPY_ROWS = 512
"""In one part: less than a megabyte stays in the cache and is not given back to the system."""


class Snapshot:
    """The k rows of `array` (any dtype, [n] or [n, m]) at `places` int64[k], all distinct.

    `waits` bool[n], lent by the owner of the array and false everywhere before: which of them are still to be
    copied. One snapshot at a time may use it.
    """

    def __init__(self, array: NDArray[Any], waits: Bools, places: I64) -> None:
        self._array, self._waits, self._left = array, waits, places
        self._saved: deque[tuple[I64, NDArray[Any]]] = deque()
        waits[places] = True

    def save(self, places: I64) -> None:
        """The rows at `places` are about to change."""
        now = places[self._waits[places]]
        if now.size:
            now = np.unique(now)
            self._saved.append((now, self._copied(now)))

    def save_all(self) -> None:
        """Copy what is left, as another snapshot begins."""
        while self._left.size:
            self._saved.append(self._next())

    def parts(self) -> Iterator[tuple[I64, NDArray[Any]]]:
        """(places, copies of their rows), at most COPY_ROWS at once, each row once, in any order."""
        while self._saved or self._left.size:
            places, rows = self._saved.popleft() if self._saved else self._next()
            for first in range(0, places.size, COPY_ROWS):
                yield places[first : first + COPY_ROWS], rows[first : first + COPY_ROWS]

    def _next(self) -> tuple[I64, NDArray[Any]]:
        part, self._left = self._left[:COPY_ROWS], self._left[COPY_ROWS:]
        part = part[self._waits[part]]
        return part, self._copied(part)

    def _copied(self, places: I64) -> NDArray[Any]:
        self._waits[places] = False
        rows: NDArray[Any] = self._array[places]
        return rows
