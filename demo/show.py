"""Where the demo is seen: a full-screen picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live

from demo.snapshot import Snapshot, clock, plain, plain_feed
from demo.view import View

PLAIN_EVERY_S = 2.0


class Show(AbstractContextManager["Show"], Protocol):
    """Something that shows snapshots while the demo runs."""

    def update(self, snapshot: Snapshot) -> None:
        """Show this one."""


class Picture:
    """The view, redrawn at every update."""

    def __init__(self, console: Console) -> None:
        self._view = View()
        self._live = Live(self._view, console=console, screen=True, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, snapshot: Snapshot) -> None:
        """Draw it."""
        self._view.snapshot = snapshot
        self._live.refresh()


class Lines:
    """A line every two seconds, every event as it comes, and the visitor's feed, when it is there and when a
    worker is back."""

    def __init__(self) -> None:
        self._events = 0
        self._said_s = float("-inf")
        self._feed_said = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def update(self, snapshot: Snapshot) -> None:
        """Say what is new."""
        for second, said in snapshot.events[self._events :]:
            print(f"{clock(second)} {said}", flush=True)
        self._events = len(snapshot.events)
        if snapshot.elapsed_s - self._said_s >= PLAIN_EVERY_S:
            self._said_s = snapshot.elapsed_s
            print(plain(snapshot), flush=True)
        if not snapshot.worker_up:
            self._feed_said = False
        elif snapshot.shown is not None and not self._feed_said:
            self._feed_said = True
            print("\n".join(plain_feed(snapshot.shown)), flush=True)


def show_on(console: Console) -> Picture | Lines:
    """What suits this console."""
    return Picture(console) if console.is_terminal and not console.is_dumb_terminal else Lines()
