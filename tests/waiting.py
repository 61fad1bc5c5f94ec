"""How tests wait: for what can be observed, for as long as something moves, on a machine of any speed.

until(lambda: drained(job), "all is committed", moving=lambda: lags(job))
assert seconds < 5.0 * slowness()
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

GUARD_S = 180.0
"""For what takes seconds: a test that reaches this hangs. A busy machine is not an error."""
POLL_S = 0.05
SPIN_CPU_S = 0.2


class Patience:
    """Lasts for as long as something moves: fails once `moving` has told the same for `still_s`."""

    def __init__(self, what: str, moving: Callable[[], object] | None, still_s: float) -> None:
        self._what, self._still_s = what, still_s
        self._moving: Callable[[], object] = moving or (lambda: None)
        self._seen, self._since = self._moving(), time.monotonic()

    def last(self) -> None:
        """Call between two looks. AssertionError: nothing moved."""
        now = time.monotonic()
        if now - self._since < self._still_s:
            return
        seen = self._moving()
        assert seen != self._seen, f"nothing moved for {self._still_s:.0f} s, still {seen}: {self._what}"
        self._seen, self._since = seen, now


def until(
    true: Callable[[], bool],
    what: str,
    moving: Callable[[], object] | None = None,
    still_s: float = GUARD_S,
) -> None:
    """Wait until it is true."""
    patience = Patience(what, moving, still_s)
    while not true():
        patience.last()
        time.sleep(POLL_S)


async def until_async(true: Callable[[], bool], what: str, still_s: float = GUARD_S) -> None:
    """The same inside a loop."""
    patience = Patience(what, None, still_s)
    while not true():
        patience.last()
        await asyncio.sleep(0.005)


@contextmanager
def started(command: Sequence[str], **how: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that is gone after the block, whatever happens in it: one that is left running is warned of
    when it is collected, and fails a test that has nothing to do with it."""
    with subprocess.Popen(command, **how) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[Any]) -> tuple[int, float]:
    """Exit code and seconds that a process takes to end that was told to or that should by itself."""
    began = time.monotonic()
    return process.wait(GUARD_S), time.monotonic() - began


def slowness() -> float:
    """How much longer work takes here at the moment than on a processor of one's own, at least 1."""
    began, until_s = time.monotonic(), time.process_time() + SPIN_CPU_S
    while time.process_time() < until_s:
        pass
    return max((time.monotonic() - began) / SPIN_CPU_S, 1.0)
