"""Turns at the event loop (all steps): what holds it for milliseconds goes one at a time, rounds apart.

Fetches, commits and writes to Redis each take several rounds of the loop. Where a slice of ingest, a slice of
ranking and a copy of rows all run in every round, a write of a millisecond takes ten times as long as all of
them together. So heavy steps wait for their turn here, and between two of them the loop turns for the rest.
Whoever had the loop for the shortest time comes first (start-time fair queueing, Goyal et al. 1996): ingest
and ranking share it evenly while both have work, and neither waits for one that has none. A turn may weigh
more: whose work gets cheaper by waiting has less of the loop while others want it. Upkeep, for which nobody
waits, has what is left.

Who only reads what others change in their turns (ranking) works in a thread beside the loop, and the turn
lasts until it is done: the loop goes on with fetches and writes, and nothing that is read changes meanwhile.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

LIGHT_ROUNDS = 8
"""About as many as a fetch or a write to Redis takes from its socket to whoever awaits it; 20 us each."""

SPENT_S_MIN = 1e-6
"""What a turn takes at least: on a clock that stands still turns go round."""
UPKEEP = "upkeep"
UPKEEP_WAIT_S_MAX = 1.0
"""Upkeep that waited for so long comes before all others: feeds that are missing are made on a busy worker
too."""
SWITCH_S = 0.001
"""For how long the thread keeps the interpreter to itself while the loop wants it; Python's own 5 ms are for
threads of equal rank."""

T = TypeVar("T")


class Turns:
    """One per loop. `UPKEEP` is the name of those who come last. Until the thread is opened, long turns work
    on the loop too."""

    def __init__(self, light_rounds: int = LIGHT_ROUNDS) -> None:
        self._light_rounds = light_rounds
        self._thread: ThreadPoolExecutor | None = None
        self._mine = False
        self._working: asyncio.Future[Any] | None = None
        self._waiting: dict[str, deque[tuple[asyncio.Future[None], float]]] = {}
        self._spent_s: dict[str, float] = {}
        self._now_s = 0.0  # what the one whose turn it is had spent before
        self._upkeep_s = 0.0  # when it last had a turn, or asked after a time without
        self._turning: asyncio.Task[None] | None = None

    def open_thread(self) -> None:
        """Long turns work beside the loop from now on, which gets the interpreter back within SWITCH_S."""
        sys.setswitchinterval(SWITCH_S)
        self._thread = ThreadPoolExecutor(1, "turns")

    def close_thread(self) -> None:
        """Waits for the turn that is being worked on. Harmless when it was never opened."""
        if self._thread is not None:
            self._thread.shutdown()

    async def take(self, by: str, weight: float = 1.0) -> None:
        """Returns when it is the caller's turn, which lasts until its next await. What it takes counts
        `weight` times."""
        turn = asyncio.get_running_loop().create_future()
        if not self._waiting.get(by):
            self._spent_s[by] = max(self._spent_s.get(by, 0.0), self._now_s)  # nobody saves up
            if by == UPKEEP:
                self._upkeep_s = asyncio.get_running_loop().time()
        self._waiting.setdefault(by, deque()).append((turn, weight))
        if self._turning is None:
            self._turning = asyncio.create_task(self._turn(), name="turns")
        await turn

    async def beside(self, work: Callable[[], T]) -> T:
        """`work`, in the thread; to be called in a turn, which lasts until it is done.

        It is not cut short: when the caller is cancelled, the turn still ends with the work.
        """
        assert self._mine, "only the first await of a turn may be this one"
        self._mine = False
        if self._thread is None:
            return work()
        self._working = working = asyncio.wrap_future(self._thread.submit(work))
        working.add_done_callback(_heard)
        return await asyncio.shield(working)

    async def _turn(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while True:
                for _ in range(self._light_rounds):
                    await asyncio.sleep(0)
                by = self._next(clock())
                if by is None:
                    return
                turn, weight = self._waiting[by].popleft()
                if turn.done():  # given up
                    continue
                self._now_s, started = self._spent_s[by], clock()
                turn.set_result(None)
                self._mine = True
                await asyncio.sleep(0)  # it is run first, as it was called first
                self._mine = False
                if self._working is not None:
                    await asyncio.wait([self._working])
                    self._working = None
                self._spent_s[by] += max(clock() - started, SPENT_S_MIN) * weight
        finally:
            self._turning = None

    def _next(self, now_s: float) -> str | None:
        asked = [by for by, waiting in self._waiting.items() if waiting]
        if UPKEEP in asked and len(asked) > 1:
            if now_s - self._upkeep_s > UPKEEP_WAIT_S_MAX:
                return UPKEEP
            asked.remove(UPKEEP)
        return min(asked, key=self._spent_s.__getitem__, default=None)


def _heard(done: asyncio.Future[Any]) -> None:
    """An error is the caller's; one that nobody waits for any more is nobody's."""
    if not done.cancelled():
        done.exception()
