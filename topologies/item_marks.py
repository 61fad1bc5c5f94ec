"""Which item rows a tick has to publish (4): those that a delta changed or of which a bucket expires."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.items import NEVER_MS

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


class ItemMarks:
    """Marks by arena slot, below `rows_max`. A slot is *waiting* while some tick will have to publish it.

    Closing a tick takes its slots in parts: what is touched in between belongs to the next tick, and has to
    be claimed before it changes.

    >>> marks = ItemMarks(8)
    >>> marks.touch(np.array([2, 5])); marks.begin(top=6, as_of_ms=0)
    >>> marks.touch(np.array([5])); marks.take(1).tolist(), marks.take(9).tolist(), marks.closing
    ([2], [5], False)
    >>> marks.touched(6).tolist()
    [5]
    """

    def __init__(self, rows_max: int) -> None:
        self._touched = np.zeros(rows_max, np.bool_)
        self._due = np.zeros(rows_max, np.bool_)
        self._expires_ms = np.zeros(rows_max, np.int64)  # 0: never; all reserved, none written until used
        self._left: I64 = np.empty(0, np.int64)

    @property
    def closing(self) -> bool:
        """Whether slots of the tick that is closing are still to be taken."""
        return bool(self._left.size)

    def touch(self, slots: I64) -> None:
        """Deltas changed these rows."""
        self._touched[slots] = True

    def touched(self, top: int) -> I64:
        """Slots below `top` with changes that belong to the next tick."""
        return np.flatnonzero(self._touched[:top])

    def begin(self, top: int, as_of_ms: int) -> None:
        """Close a tick: due are all slots below `top` that were touched or of which a bucket expired."""
        expires_ms = self._expires_ms[:top]
        self._due[:top] = self._touched[:top] | ((expires_ms > 0) & (expires_ms <= as_of_ms))
        self._touched[:top] = False
        self._left = np.flatnonzero(self._due[:top])

    def take(self, count: int) -> I64:
        """The next due slots, at most `count`; they are done."""
        part, self._left = self._left[:count], self._left[count:]
        part = part[self._due[part]]
        self._due[part] = False
        return part

    def claim(self, slots: I64) -> I64:
        """Those of `slots` (below 0: none) that the closing tick still has to publish; they are done."""
        part = np.unique(slots[slots >= 0])
        part = part[self._due[part]]
        self._due[part] = False
        return part

    def expire(self, slots: I64, at_ms: I64) -> None:
        """When the rows change next although no delta comes (NEVER_MS: never)."""
        self._expires_ms[slots] = np.where(at_ms >= NEVER_MS, 0, at_ms)

    def waiting(self, top: int) -> Bools:
        """bool[top]: slots that some tick will have to publish."""
        waiting: Bools = self._touched[:top] | self._due[:top] | (self._expires_ms[:top] > 0)
        return waiting

    def forget(self, slots: I64) -> None:
        """These slots hold nothing any more."""
        self._touched[slots] = self._due[slots] = False
        self._expires_ms[slots] = 0
