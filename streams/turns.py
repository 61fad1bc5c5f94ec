"""Turns at the event loop (all steps): what holds it for milliseconds goes one at a time, rounds apart.

Fetches, commits and writes to Redis each take several rounds of the loop. Where a slice of ingest, a slice of
ranking and a copy of rows all run in every round, a write of a millisecond takes ten times as long as all of
them together. So heavy steps wait for their turn here, and between two of them the loop turns for the rest.
Whoever had the loop for the shortest time comes first (start-time fair queueing, Goyal et al. 1996): ingest
and ranking share it evenly while both have work, and neither waits for one that has none. Upkeep, for which
nobody waits, has what is left.
"""

from __future__ import annotations

import asyncio
from collections import deque

LIGHT_ROUNDS = 8
"""About as many as a fetch or a write to Redis takes from its socket to whoever awaits it; 20 us each."""

SPENT_S_MIN = 1e-6
"""What a turn takes at least: on a clock that stands still turns go round."""
UPKEEP = "upkeep"
UPKEEP_WAIT_S_MAX = 1.0
"""Upkeep that waited for so long comes before all others: feeds that are missing are made on a busy worker
too."""


class Turns:
    """One per loop. `UPKEEP` is the name of those who come last."""

    def __init__(self, light_rounds: int = LIGHT_ROUNDS) -> None:
        self._light_rounds = light_rounds
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._spent_s: dict[str, float] = {}
        self._now_s = 0.0  # what the one whose turn it is had spent before
        self._upkeep_s = 0.0  # when it last had a turn, or asked after a time without
        self._turning: asyncio.Task[None] | None = None

    async def take(self, by: str) -> None:
        """Returns when it is the caller's turn, which lasts until its next await."""
        turn = asyncio.get_running_loop().create_future()
        if not self._waiting.get(by):
            self._spent_s[by] = max(self._spent_s.get(by, 0.0), self._now_s)  # nobody saves up
            if by == UPKEEP:
                self._upkeep_s = asyncio.get_running_loop().time()
        self._waiting.setdefault(by, deque()).append(turn)
        if self._turning is None:
            self._turning = asyncio.create_task(self._turn(), name="turns")
        await turn

    async def _turn(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while True:
                for _ in range(self._light_rounds):
                    await asyncio.sleep(0)
                by = self._next(clock())
                if by is None:
                    return
                turn = self._waiting[by].popleft()
                if turn.done():  # given up
                    continue
                self._now_s, started = self._spent_s[by], clock()
                turn.set_result(None)
                await asyncio.sleep(0)  # it is run first, as it was called first
                self._spent_s[by] += max(clock() - started, SPENT_S_MIN)
        finally:
            self._turning = None

    def _next(self, now_s: float) -> str | None:
        asked = [by for by, waiting in self._waiting.items() if waiting]
        if UPKEEP in asked and len(asked) > 1:
            if now_s - self._upkeep_s > UPKEEP_WAIT_S_MAX:
                return UPKEEP
            asked.remove(UPKEEP)
        return min(asked, key=self._spent_s.__getitem__, default=None)
