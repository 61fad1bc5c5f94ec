"""An event loop whose clock, and whose order of turns between processes, are the seed's."""

from __future__ import annotations

import asyncio
import heapq
import random
import zlib
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any

STEP_S = 0.00005
"""What one turn takes: timers and answers come due between any two of them."""
STEPS_MAX = 400_000
TURNS_AT_ONCE = 64
"""Before asyncio's own loop around them comes by."""


class Process:
    """What dies, freezes and wakes up as one. Its turns keep their order, as asyncio promises."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive, self.frozen = True, False
        self.turns: deque[Turn] = deque()
        self.context: Context = copy_context()
        self.context.run(PROCESS.set, self)
        self.at_death: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return self.name


PROCESS: ContextVar[Process] = ContextVar("process")


class StuckError(AssertionError):
    """So many turns and no end."""


class Turn:
    """What asyncio calls a handle: a call that is to be made, in the context of its process."""

    __slots__ = ("arguments", "call", "context", "gone")

    def __init__(self, call: Callable[..., Any], arguments: tuple[Any, ...], context: Context | None) -> None:
        self.call, self.arguments = call, arguments
        self.context = copy_context() if context is None else context
        self.gone = False

    def cancel(self) -> None:
        self.gone = True

    def cancelled(self) -> bool:
        return self.gone


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
        self._timers: list[tuple[float, int, Turn]] = []
        self._numbers = count()
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

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self._queue(Turn(callback, args, context))

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        turn = Turn(callback, args, context)
        heapq.heappush(self._timers, (when, next(self._numbers), turn))
        return turn

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def _queue(self, turn: Turn) -> Turn:
        process = turn.context.get(PROCESS, self.world)
        if process.alive or self.ending:
            process.turns.append(turn)
        return turn

    def _run_once(self) -> None:
        """Some turns, each of a process that the seed chooses. All in one function: a seed has thousands."""
        timers, processes, draw = self._timers, self.processes, self.random.random
        for _ in range(TURNS_AT_ONCE):
            if timers and (timers[0][0] <= self.now_s or timers[0][2].gone):
                self._come_due()
            ready = [p for p in processes if p.turns and not p.frozen]
            if not ready:
                self._skip()
                continue
            process = ready[0] if len(ready) == 1 else ready[int(draw() * len(ready))]
            turn = process.turns.popleft()
            if not turn.gone:
                try:
                    turn.context.run(turn.call, *turn.arguments)
                except Exception as error:
                    self.complaints.append({"message": f"in a turn of {process}", "exception": error})
            self.steps += 1
            self.now_s += STEP_S
            if self._stopping or self.ending:
                return
        if self.steps > STEPS_MAX and not self.ending:
            raise StuckError(f"no end after {self.steps} turns, {self.now_s:.0f} s")

    def _come_due(self) -> None:
        timers, now_s = self._timers, self.now_s
        while timers and (timers[0][0] <= now_s or timers[0][2].gone):
            turn = heapq.heappop(timers)[2]
            if not turn.gone:
                self._queue(turn)

    def _skip(self) -> None:
        """Nobody has anything to do before the next timer."""
        if not self._timers:
            raise StuckError("everything waits, for nothing")
        self.now_s = max(self.now_s, self._timers[0][0])
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
