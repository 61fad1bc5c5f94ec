"""An event loop whose clock, and whose order of turns between processes, are the seed's."""

from __future__ import annotations

import asyncio
import heapq
import random
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any

STEP_S = 0.00005
"""What one turn takes: timers and answers come due between any two of them."""
STEPS_MAX = 400_000


class Process:
    """What dies, freezes and wakes up as one. Its turns keep their order, as asyncio promises."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive, self.frozen = True, False
        self.turns: deque[asyncio.Handle] = deque()
        self.context: Context = copy_context()
        self.context.run(PROCESS.set, self)
        self.at_death: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return self.name


PROCESS: ContextVar[Process] = ContextVar("process")


class StuckError(AssertionError):
    """So many turns and no end."""


class _Turns:
    """Takes the place of the loop's queue: one queue for each process."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def append(self, handle: asyncio.Handle) -> None:
        process: Process = handle._context.get(PROCESS, self._loop.world)  # type: ignore[attr-defined]
        if process.alive or self._loop.ending:
            process.turns.append(handle)

    def __len__(self) -> int:
        return sum(len(process.turns) for process in self._loop.processes)

    def __iter__(self) -> Iterator[asyncio.Handle]:
        return (handle for process in self._loop.processes for handle in process.turns)

    def clear(self) -> None:
        for process in self._loop.processes:
            process.turns.clear()


class SimLoop(asyncio.BaseEventLoop):
    """Runs one turn at a time, of a process that the seed chooses; time moves only here.

    `trace` is a hash of all that happened so far: equal for equal runs.
    """

    def __init__(self, seed: random.Random) -> None:
        super().__init__()
        self.random = seed
        self.now_s = 1.0
        self.world = Process("world")
        self.processes = [self.world]
        self.graves: list[Process] = []
        self.steps = self.trace = 0
        self.ending = False
        self.tasks: list[asyncio.Task[Any]] = []
        self.complaints: list[dict[str, Any]] = []
        self._ready = _Turns(self)
        self.set_task_factory(self._make_task)
        self.set_exception_handler(lambda loop, context: self.complaints.append(context))

    def time(self) -> float:
        return self.now_s

    def _make_task(self, loop: Any, work: Any, context: Context | None = None) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=self, context=context)
        self.tasks.append(task)  # collected by chance, a dead process would still run its `finally`
        return task

    def note(self, text: str) -> None:
        """Something happened that belongs to what is compared when a seed is played again."""
        self.trace = zlib.crc32(text.encode(), self.trace)

    # -- processes -------------------------------------------------------------------------------------

    def process(self, name: str) -> Process:
        """A new one; tasks that are made in its context belong to it."""
        process = Process(name)
        self.processes.append(process)
        return process

    def spawn(self, process: Process, work: Any) -> asyncio.Task[Any]:
        """A task of a process."""
        return self.create_task(work, context=process.context.copy())

    def kill(self, process: Process) -> None:
        """Its next turn never comes."""
        process.alive = False
        process.turns.clear()
        self.processes.remove(process)
        self.graves.append(process)
        for last in process.at_death:
            last()

    # -- turns -----------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        self._come_due()
        ready = [p for p in self.processes if p.turns and not p.frozen]
        if not ready:
            self._skip()
            return
        process = ready[0] if len(ready) == 1 else ready[int(self.random.random() * len(ready))]
        handle = process.turns.popleft()
        if not handle._cancelled:  # type: ignore[attr-defined]
            handle._run()
        self.steps += 1
        self.now_s += STEP_S
        if self.steps > STEPS_MAX and not self.ending:
            raise StuckError(f"no end after {self.steps} turns, {self.now_s:.0f} s")

    def _come_due(self) -> None:
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self.now_s):
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                self._ready.append(handle)

    def _skip(self) -> None:
        """Nobody has anything to do before the next timer."""
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        if not scheduled:
            raise StuckError("everything waits, for nothing")
        self.now_s = max(self.now_s, scheduled[0]._when)
        self.trace = zlib.crc32(b"%.6f" % self.now_s, self.trace)

    # -- the end ---------------------------------------------------------------------------------------

    def wind_up(self) -> None:
        """End all that still waits, so that nothing is left for the collector of garbage."""
        self.ending = True
        left = [task for task in self.tasks if not task.done()]
        for task in left:
            task.cancel()
        self.processes += self.graves
        for process in self.processes:
            process.frozen = False
        for _ in range(20 * len(left) + 100):
            left = [task for task in left if not task.done()]
            if not left:
                break
            try:
                self._run_once()
            except StuckError:
                break
        for task in left:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.close()

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""

    def _process_events(self, event_list: Any) -> None:
        """There are no sockets."""
