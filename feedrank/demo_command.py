"""`feedrank demo`: see it work on an embedded Kafka and Redis, with simulated people and your own feed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from demo.report import lines_of
from demo.run import Demo, Outcome
from demo.show import show_on
from demo.site import Site
from streams.errors import ExitCode, OperatorError

ROOT = Path("run/demo")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Duration = Annotated[float, typer.Option(min=0, envvar="DURATION_S", help="Seconds; 0: until Ctrl-C.")]
KillAfter = Annotated[
    float, typer.Option(min=0, envvar="KILL_AFTER_S", help="When the worker is killed; 0: never.")
]


def demo(duration_s: Duration = 60.0, kill_after_s: KillAfter = 15.0) -> None:
    """See it work: embedded Kafka and Redis, simulated people, a worker, a page with your own feed."""
    site = Site(ROOT)
    run = Demo(site, duration_s, kill_after_s)
    failed = True
    with stopping(run.stop):
        try:
            outcome = _run(run)
            failed = bool(outcome.problems)
        except KeyboardInterrupt:
            failed = False
            raise
        finally:
            site.close(keep_logs=failed)
    for line in lines_of(outcome, site):
        print(line)
    if failed:
        raise OperatorError(
            "\n".join([*outcome.problems, f"the logs are in {site.directory}"]), ExitCode.INTERNAL
        )


def _run(run: Demo) -> Outcome:
    if run.duration_s and run.kill_after_s >= run.duration_s:
        print("KILL_AFTER_S is not before the end: the worker will not be killed", flush=True)
    run.start()
    with show_on(Console()) as show:
        run.live(show)
    print("the people stop; waiting for the worker's last checkpoint", flush=True)
    return run.finish()


@contextlib.contextmanager
def stopping(stop: threading.Event) -> Iterator[None]:
    """Within, the first Ctrl-C (or SIGTERM, SIGHUP) sets `stop`, a second one interrupts."""

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
