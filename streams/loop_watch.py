"""Is the event loop held too long, and does anything still move? (all steps)

`LoopWatch` times every callback of the loop. `Watchdog` is a thread of its own, so that it also sees a loop
that is stuck: when nothing moves for STALL_S while lag grows (or the loop no longer beats), it logs where
each task and thread stands and ends the process.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from asyncio import events
from collections.abc import Callable
from dataclasses import dataclass

from streams.errors import ExitCode
from streams.log import logger
from streams.metrics import Metrics

BEAT_S = 0.25
HOLD_MEASURED_S = 0.001
LOOK_EVERY_S = 0.02
WARN_EVERY_S = 10.0
FRAMES_MAX = 12
WRAPPERS = ("_execute_task", "_guarded")
"""Coroutines that only run another one."""
_RUN = "_run"

log = logger(__name__)


class LoopWatch:
    """Counts the callbacks that hold the loop for more than 1 ms and names those above `hold_ms_max`.

    Asyncio runs every callback and every step of a task through `Handle._run` (asyncio/events.py); it is
    wrapped while the watch is on, at about 0.2 us a callback. A test fails when Python moves it. The CPU
    clock costs more and is read now and then: the time since it was read last is the most that a hold can
    have computed, which tells ours from those of a process that was stopped.
    """

    def __init__(self, metrics: Metrics, hold_ms_max: int) -> None:
        self._metrics, self._max_s = metrics, hold_ms_max / 1_000
        self._original: Callable[[events.Handle], None] | None = None
        self._warned_at = float("-inf")
        self._unwarned = 0
        self._cpu_s = self._look_s = 0.0

    def start(self) -> None:
        """Begin to measure the loop of this thread. Idempotent."""
        if self._original is not None:
            return
        original = self._original = events.Handle._run
        clock, look, noticed = time.perf_counter, self._look, self._noticed
        here, thread = threading.get_ident, threading.get_ident()

        def timed(handle: events.Handle) -> None:
            if here() != thread:  # Faust's consumer has a loop of its own, where nobody waits for feeds
                original(handle)
                return
            start = clock()
            if start >= self._look_s:
                look(start)
            original(handle)
            spent = clock() - start
            if spent >= HOLD_MEASURED_S:
                noticed(handle, spent)

        setattr(events.Handle, _RUN, timed)

    def stop(self) -> None:
        """Give the loop its own method back."""
        if self._original is not None:
            setattr(events.Handle, _RUN, self._original)
            self._original = None

    def _look(self, now_s: float) -> float:
        """CPU seconds of this thread since the last look."""
        before_s, self._cpu_s = self._cpu_s, time.thread_time()
        self._look_s = now_s + LOOK_EVERY_S
        return self._cpu_s - before_s

    def _noticed(self, handle: events.Handle, spent_s: float) -> None:
        by, title = _names(handle)
        self._metrics.held(spent_s, by)
        computed_s = min(spent_s, self._look(time.perf_counter()))
        if spent_s <= self._max_s:
            return
        self._unwarned += 1
        now = time.monotonic()
        if now - self._warned_at >= WARN_EVERY_S:
            log.warning(
                f"the event loop was held; {_advice(by, computed_s > self._max_s)}",
                held_ms=round(spent_s * 1_000, 1),
                cpu_ms_at_most=round(computed_s * 1_000, 1),
                by=f"{title} {by}".strip(),
                holds=self._unwarned,
            )
            self._warned_at, self._unwarned = now, 0


def _advice(by: str, computed: bool) -> str:
    if not computed:
        return "it hardly computed: other processes on these cores, or a slow disk"
    if by == "ingest":
        return "smaller slices keep it free (INGEST_RECORDS_MAX)"
    return "feeds and fetches waited meanwhile"


def _names(handle: events.Handle) -> tuple[str, str]:
    """What the handle ran (a named task's first word, else the coroutine or callback) and the task's name."""
    callback = getattr(handle, "_callback", None)
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return str(getattr(callback, "__qualname__", type(callback).__name__)), ""
    title = task.get_name()
    if title.startswith(("Task-", "<")):
        return _coroutine(task.get_coro()), ""
    return title.split()[0], title


def _coroutine(outer: object) -> str:
    """The name of a task's coroutine, or of what it awaits where it is only a wrapper."""
    inner: object = outer
    while str(getattr(inner, "__name__", "")) in WRAPPERS:
        inner = getattr(inner, "cr_await", None)
    return str(getattr(inner, "__qualname__", None) or getattr(outer, "__qualname__", outer))


@dataclass(slots=True)
class Standing:
    """Where one task stands: how much it has done, what lies before it, what it is doing."""

    moved: int = 0
    lag: int = 0
    doing: str = ""


class Progress:
    """What the tasks tell the watchdog; written on the loop, read from its thread (whole values only)."""

    def __init__(self) -> None:
        self.standings: dict[tuple[str, int], Standing] = {}
        self.waits: dict[str, str] = {}
        self.beat_s = time.monotonic()

    def moved(self, task: str, partition: int, amount: int = 1, doing: str = "") -> None:
        """`amount` records or rows more are done by this task on this partition."""
        standing = self._standing(task, partition)
        standing.moved += amount
        standing.doing = doing

    def doing(self, task: str, partition: int, doing: str) -> None:
        """The step that the task has begun."""
        self._standing(task, partition).doing = doing

    def lag(self, task: str, partition: int, records: int) -> None:
        """How many records lie before the task."""
        self._standing(task, partition).lag = records

    def forget(self, partition: int) -> None:
        """The partition was revoked."""
        for key in [k for k in self.standings if k[1] == partition]:
            self.standings.pop(key, None)

    def waits_for(self, part: str, why: str) -> None:
        """Standing still on purpose (Redis is down, say): the watchdog lets it be."""
        self.waits[part] = why

    def goes_on(self, part: str) -> None:
        """The reason to wait is gone."""
        self.waits.pop(part, None)

    async def beat(self) -> None:
        """Run as a task: shows that the loop still turns."""
        while True:
            self.beat_s = time.monotonic()
            await asyncio.sleep(BEAT_S)

    def _standing(self, task: str, partition: int) -> Standing:
        return self.standings.setdefault((task, partition), Standing())

    def totals(self) -> tuple[int, int]:
        """Sum of what moved and of lag."""
        standings = list(self.standings.values())
        return sum(s.moved for s in standings), sum(s.lag for s in standings)


class Judge:
    """Decides when a process is stalled; pure, so that it is tested without threads.

    Stalled: for `stall_s`, reckoned from when lag began to grow, the sum of what moved is the same, with
    nothing waiting on purpose; or the loop has not turned for `stall_s`. A quiet time before a burst of
    records does not count.
    """

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._since_s: float | None = None
        self._moved = 0
        self._lag = 0

    def verdict(self, progress: Progress, now_s: float) -> str | None:
        """Why the process is stalled at `now_s` (monotonic seconds); None while it is not."""
        silent_s = now_s - progress.beat_s
        if silent_s >= self._stall_s:
            return f"the event loop has not turned for {silent_s:.0f} s"
        moved, lag = progress.totals()
        if self._since_s is None or moved != self._moved or lag <= self._lag or progress.waits:
            self._since_s, self._moved, self._lag = now_s, moved, lag
            return None
        still_s = now_s - self._since_s
        if still_s >= self._stall_s and lag > self._lag:
            return f"nothing moved for {still_s:.0f} s while lag grew from {self._lag} to {lag} records"
        return None


class Watchdog:
    """The thread. `end` is called with the exit code once the state is logged; the default ends the process
    at once, without cleaning up: state is safe in the changelog, and a stuck loop cannot clean up."""

    def __init__(self, progress: Progress, stall_s: float, end: Callable[[int], None] = os._exit) -> None:
        self._progress, self._judge, self._end = progress, Judge(stall_s), end
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch `loop` and the progress told on it."""
        self._loop = loop
        self._progress.beat_s = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Harmless when it was never started."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * BEAT_S)

    def _run(self) -> None:
        while not self._stopped.wait(BEAT_S):
            why = self._judge.verdict(self._progress, time.monotonic())
            if why:
                log.error("stalled; the worker ends, restart it", why=why)
                for line in standing_lines(self._progress, self._loop):
                    log.error(line)
                self._end(ExitCode.STALLED)
                return


def standing_lines(progress: Progress, loop: asyncio.AbstractEventLoop | None) -> list[str]:
    """Where each partition's task, each asyncio task and each thread stands: one line each."""
    lines = [
        f"task {task} partition {partition}: moved {s.moved}, lag {s.lag}, {s.doing or 'no step named'}"
        for (task, partition), s in sorted(progress.standings.copy().items())
    ]
    try:
        tasks = asyncio.all_tasks(loop) if loop else set()
    except RuntimeError:  # the set changed while it was copied; the threads below still tell most of it
        tasks = set()
    for one in tasks:
        frames = one.get_stack(limit=FRAMES_MAX)
        where = " < ".join(f"{f.f_code.co_name}:{f.f_lineno}" for f in reversed(frames))
        lines.append(f"asyncio {one.get_name()}: {where or 'no frame'}")
    names = {t.ident: t.name for t in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        stack = reversed(traceback.extract_stack(frame, limit=FRAMES_MAX))
        lines.append(f"thread {names.get(ident)}: " + " < ".join(f"{s.name}:{s.lineno}" for s in stack))
    return lines
