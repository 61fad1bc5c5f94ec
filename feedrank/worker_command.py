"""`feedrank worker`: one worker, until it is told to stop."""

from __future__ import annotations

import typer

from streams.settings import Settings
from streams.transport import run_worker
from topologies.start import prepare


def worker() -> None:
    """Run one worker: activities in, ranked feeds out. Settings come from the environment."""
    raise typer.Exit(run_worker(prepare(Settings.load())))
