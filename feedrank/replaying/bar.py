"""How far a replay is: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from topologies.replay.run import SAYING

LINE_EVERY_S = 10.0


class Bar:
    """A topologies.replay.run.Watcher: goes on while `goes_on(done, total)` says so and `stop()` does not."""

    def __init__(
        self,
        goes_on: Callable[[int, int], bool],
        stop: Callable[[], bool],
        console: Console | None = None,
    ) -> None:
        self._goes_on, self._stop = goes_on, stop
        self._console = console or Console(stderr=True)
        columns = (
            TextColumn("{task.description:15}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task: TaskID | None = None
        self._name, self._done, self._total = "", 0, 0
        self._began_s = self._said_s = time.monotonic()

    def __enter__(self) -> Bar:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._say()
        self._bars.stop()

    def phase(self, name: str, total: int | None) -> None:
        """See Watcher."""
        self._say()
        self._name, self._done, self._total = SAYING[name], 0, total or 0
        self._began_s = self._said_s = time.monotonic()
        self._task = self._bars.add_task(self._name, total=total, rate="")

    def moved(self, count: int) -> bool:
        """See Watcher."""
        self._done += count
        if self._task is not None:
            self._bars.update(self._task, completed=self._done, rate=f"{self._rate():,.0f}/s")
        if not self._console.is_terminal and time.monotonic() - self._said_s >= LINE_EVERY_S:
            self._say()
        return self._goes_on(self._done, self._total) and not self._stop()

    def _rate(self) -> float:
        return self._done / max(time.monotonic() - self._began_s, 1e-3)

    def _say(self) -> None:
        """One line, where there is no terminal."""
        self._said_s = time.monotonic()
        if self._console.is_terminal or not self._done:
            return
        of = f" of {self._total:,}" if self._total else ""
        left_s = (self._total - self._done) / max(self._rate(), 1e-3)
        left = f", {left_s:.0f} s left" if self._total > self._done else ""
        self._console.print(
            f"{self._name}: {self._done:,}{of}, {self._rate():,.0f}/s{left}", highlight=False, soft_wrap=True
        )
