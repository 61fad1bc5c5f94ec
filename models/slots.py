"""Slots of items, authors and topics (5): used again, but not while a list may still name them."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def doubled(column: NDArray[Scalar]) -> NDArray[Scalar]:
    """The column with room for twice as many slots, zeros (of pages that cost nothing until touched)."""
    wider = np.zeros((2 * len(column), *column.shape[1:]), column.dtype)
    wider[: len(column)] = column
    return wider


class Slots:
    """Hands out 0, 1, 2, ...; freed ones again only after `reuse`.

    A refresh builds lists of slots over several slices. A slot that was freed before the refresh began stands
    in none of its lists, so once they are published the slots freed before `mark` can be given away.

    >>> slots = Slots()
    >>> slots.take(), slots.take()
    (0, 1)
    >>> slots.free(0)
    >>> slots.take()
    2
    >>> slots.reuse(slots.mark())
    >>> slots.take()
    0
    """

    def __init__(self) -> None:
        self.high = 0  # all slots ever used are below
        self._freed: list[int] = []
        self._free: list[int] = []

    def take(self) -> int:
        """A slot that nothing refers to."""
        if self._free:
            return self._free.pop()
        self.high += 1
        return self.high - 1

    def free(self, slot: int) -> None:
        """Give a slot back."""
        self._freed.append(slot)

    def mark(self) -> int:
        """How many slots wait to be used again, at the start of a refresh."""
        return len(self._freed)

    def reuse(self, mark: int) -> None:
        """The lists made since `mark` was taken are published: earlier freed slots may be used again."""
        self._free += self._freed[:mark]
        del self._freed[:mark]
