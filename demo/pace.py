"""How often something is to happen: so many times a second, without bursts after a pause."""

from __future__ import annotations

from dataclasses import dataclass

DEBT_S_MAX = 1.0


@dataclass(slots=True)
class Pace:
    """`per_s` turns a second from `start_s` on. What was missed for longer than a second (and one turn) is
    dropped: a machine that cannot keep up gets less, not ever more.

    >>> pace = Pace(10.0, 0.0)
    >>> pace.due(0.5), pace.due(0.5), pace.due(1.0), pace.due(60.0)
    (5, 0, 5, 11)
    """

    per_s: float
    start_s: float
    _taken: float = 0.0

    def due(self, now_s: float) -> int:
        """Turns to take now; asking takes them."""
        owed = (now_s - self.start_s) * self.per_s - self._taken
        dropped = max(0.0, owed - 1.0 - self.per_s * DEBT_S_MAX)
        turns = int(owed - dropped)
        self._taken += turns + dropped
        return turns
