"""Item statistics that have come and are not in the index yet (5): those of a tick enter it together.

Partitions of item-features are read one after the other. If each entered the index as it came, feeds of a
tick would be ranked with some items as of that tick and others as of the next, and nobody could say which.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

TICKS_MAX = 16
"""Kept apart, of one partition. More wait only for a partition that has no owner: the oldest become one."""

Records = dict[bytes, bytes | None]


@dataclass(slots=True)
class StagedTick:
    """`records`: what a partition published of its items up to this tick (None: forgotten); `positions`: by
    partition of activities, up to where its statistics contain them."""

    tick: int
    positions: Sequence[int]
    records: Records


@dataclass(slots=True)
class Staged:
    """One partition of item-features, from the newest tick that the index has.

    >>> part = Staged()
    >>> part.came({b"a": b"1"}); part.marked(3, [5]); part.came({b"a": b"2"}); part.marked(4, [9])
    >>> [(one.tick, one.records) for one in part.until(3)], [one.tick for one in part.until(9)]
    ([(3, {b'a': b'1'})], [4])
    """

    _ticks: deque[StagedTick] = field(default_factory=deque)
    _open: Records = field(default_factory=dict)

    def came(self, records: Mapping[bytes, bytes | None]) -> None:
        """Records of the tick whose marker comes next."""
        self._open.update(records)

    def marked(self, tick: int, positions: Sequence[int]) -> None:
        """The tick is whole."""
        self._ticks.append(StagedTick(tick, positions, self._open))
        self._open = {}

    def crowded(self) -> StagedTick | None:
        """The oldest tick, taken out, where more than TICKS_MAX wait."""
        return self._ticks.popleft() if len(self._ticks) > TICKS_MAX else None

    def join(self, older: Records) -> None:
        """These become part of the oldest tick that waits."""
        self._ticks[0].records = older | self._ticks[0].records

    def until(self, tick: int) -> list[StagedTick]:
        """Takes the ticks up to this one out, in order."""
        found = []
        while self._ticks and self._ticks[0].tick <= tick:
            found.append(self._ticks.popleft())
        return found
