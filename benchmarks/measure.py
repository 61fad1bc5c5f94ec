"""CPU seconds and peak memory of a process with all its threads, and progress against CPU.

Rates are per CPU-second of one process, so that a busy machine changes them less than wall-clock rates.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import TICKS_PER_S, cpu_s, peak_mb
from tests.services import dies_with_us

TAIL_CHARS = 1_500


@dataclass(frozen=True, slots=True)
class Mark:
    """`processed` records after `cpu_s` seconds of CPU of the process, at `wall_s` of any clock."""

    processed: int
    cpu_s: float
    wall_s: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What one contender's process used. `wrong_cells` counts differences to the brute-force counts."""

    subject: str
    marks: list[Mark] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mb: float = 0.0
    wrong_cells: int | None = None

    def per_cpu_second(self, warm_up: int) -> float:
        """Records per CPU-second between the first mark at or after `warm_up` records and the last mark.

        Raises ValueError when there are not two such marks.
        """
        first, last = self._steady(warm_up)
        return (last.processed - first.processed) / max(last.cpu_s - first.cpu_s, 1 / TICKS_PER_S)

    def per_second(self, warm_up: int) -> float:
        """The same by the clock on the wall; only for sampled marks."""
        first, last = self._steady(warm_up)
        return (last.processed - first.processed) / (last.wall_s - first.wall_s)

    def _steady(self, warm_up: int) -> tuple[Mark, Mark]:
        first = next((m for m in self.marks if m.processed >= warm_up), None)
        last = self.marks[-1] if self.marks else None
        if first is None or last is None or last.processed <= first.processed:
            raise ValueError(f"{self.subject} has no steady state after {warm_up} records: {self.marks[-3:]}")
        return first, last


class Contender:
    """A started process whose CPU is taken when it ends, and its peak memory whenever it is looked at."""

    def __init__(self, subject: str, command: Sequence[str], log: Path, env: dict[str, str] | None = None):
        self.outcome = Outcome(subject)
        self.log = log
        self._started = time.monotonic()
        environment = os.environ | (env or {})
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # no installation compiles all at every start
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                dies_with_us(list(command)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def running(self) -> bool:
        """False once it has ended; then `outcome` has its CPU and peak memory."""
        if self.process.returncode is not None:
            return False
        self.outcome.peak_mb = max(self.outcome.peak_mb, peak_mb(self.pid))
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return True
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.outcome.cpu_s = usage.ru_utime + usage.ru_stime
        self.outcome.wall_s = time.monotonic() - self._started
        return False

    def wait(self, timeout_s: float) -> Outcome:
        """Wait until it ends by itself. Raises BenchmarkFailed when it fails or takes too long."""
        self.watch(lambda: not self.running(), timeout_s, "end")
        if self.process.returncode:
            raise BenchmarkFailed(f"{self.outcome.subject} ended with {self.process.returncode}", self.log)
        return self.outcome

    def watch(self, done: Callable[[], bool], timeout_s: float, what: str, every_s: float = 0.1) -> None:
        """Poll `done`. Raises BenchmarkFailed when the process ends first or time runs out."""
        deadline = time.monotonic() + timeout_s
        while not done():
            if not self.running() and not done():
                raise BenchmarkFailed(f"{self.outcome.subject} ended before: {what}", self.log)
            if time.monotonic() > deadline:
                self.stop()
                raise BenchmarkFailed(f"{self.outcome.subject}: {what} took over {timeout_s:.0f} s", self.log)
            time.sleep(every_s)

    def sample(self, processed: int) -> None:
        """Remember progress against CPU now."""
        if not self.outcome.marks or processed > self.outcome.marks[-1].processed:
            self.outcome.marks.append(Mark(processed, cpu_s(self.pid), time.monotonic()))

    def printed_marks(self) -> None:
        """Read the marks that the process itself printed: lines `mark PROCESSED CPU_SECONDS`."""
        for line in self.log.read_text(errors="replace").splitlines():
            parts = line.split()
            if len(parts) == 3 and parts[0] == "mark":
                self.outcome.marks.append(Mark(int(parts[1]), float(parts[2])))

    def stop(self, timeout_s: float = 15.0) -> None:
        """SIGTERM, then kill -9; its CPU is taken."""
        if not self.running():
            return
        self.process.terminate()
        deadline = time.monotonic() + timeout_s
        while self.running():
            if time.monotonic() > deadline:
                self.process.kill()
            time.sleep(0.02)


class BenchmarkFailed(Exception):  # noqa: N818
    """A contender did not do its work; the text ends with the tail of its log."""

    def __init__(self, what: str, log: Path) -> None:
        tail = log.read_text(errors="replace")[-TAIL_CHARS:] if log.exists() else "(no log)"
        super().__init__(f"{what}; its log {log} ends: {tail}")


def on_one_thread(module: str) -> None:
    """Start this module anew with one BLAS thread, as a worker has; returns when it already is."""
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])
