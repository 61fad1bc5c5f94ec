"""Processes that the demo starts: each with a log, each stopped whatever happens.

They sit in sessions of their own, so that Ctrl-C reaches the demo only, and where util-linux is installed the
kernel ends them when the demo itself is killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streams.errors import ExitCode, OperatorError

STOP_DEADLINE_S = 10.0
KILL_DEADLINE_S = 5.0
TAIL_LINES = 5
QUIET_LEVELS = ("Z debug ", "Z info ")


@dataclass(slots=True)
class Child:
    """A process that we started. What it says on stderr is in `log`, on stdout too unless `piped`.

    Servers have an `address`.
    """

    name: str
    log: Path
    process: subprocess.Popen[bytes]
    address: str = ""
    expected_to_end: bool = False

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def ask_to_stop(self) -> None:
        """SIGTERM; harmless when it has ended."""
        self.expected_to_end = True
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.expected_to_end = True
        self.process.kill()
        self.process.wait(KILL_DEADLINE_S)

    def stop(self, deadline_s: float = STOP_DEADLINE_S) -> int:
        """SIGTERM, kill -9 where that takes longer than `deadline_s`; the exit code. Twice is harmless."""
        if self.alive():
            self.ask_to_stop()
            try:
                self.process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return self.process.wait()

    def tail(self) -> str:
        """The last lines of its log, without what is only informative when there is anything else."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").splitlines()
            telling = [line for line in lines if not any(level in line for level in QUIET_LEVELS)]
            return "\n".join((telling or lines)[-TAIL_LINES:])
        return ""

    def failure(self) -> OperatorError:
        """What to say when it has ended by itself; its own exit code where that is one of ours."""
        code = self.process.poll()
        known = code is not None and code in set(ExitCode) and code != ExitCode.OK
        said = self.tail()
        return OperatorError(
            f"the {self.name} has ended by itself with code {code}; its log is {self.log}"
            + (f", which ends:\n{said}" if said else ""),
            ExitCode(code) if known and code is not None else ExitCode.INTERNAL,
        )


def start(
    name: str,
    command: Sequence[str],
    directory: Path,
    environment: Mapping[str, str] | None = None,
    piped: bool = False,
) -> Child:
    """Start a process that logs to `directory`/`name`.log, after what is there. `piped`: stdin and stdout
    are pipes of ours."""
    log = directory / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            _dies_with_us(command),
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else output,
            stderr=output,
            env=dict(environment if environment is not None else os.environ),
            start_new_session=True,
        )
    return Child(name, log, process)


def _dies_with_us(command: Sequence[str]) -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else list(command)


@dataclass(slots=True)
class Children:
    """All processes of one run, in the order of their start."""

    running: list[Child] = field(default_factory=list)

    def add(self, child: Child) -> Child:
        """Look after one more."""
        self.running.append(child)
        return child

    def forget(self, child: Child) -> None:
        """It has ended and is of no further interest."""
        self.running.remove(child)

    def check(self) -> None:
        """Raises OperatorError when one has ended that nobody told to."""
        for child in self.running:
            if not child.alive() and not child.expected_to_end:
                raise child.failure()

    def stop_all(self, deadline_s: float = STOP_DEADLINE_S) -> None:
        """End them within about `deadline_s`: clients all at once, servers after them, the last one first."""
        until_s = time.monotonic() + deadline_s
        for child in self.running:
            if not child.address:
                child.ask_to_stop()
        while self.running:
            self.running.pop().stop(max(0.5, until_s - time.monotonic()))
