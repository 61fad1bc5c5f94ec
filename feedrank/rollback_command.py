"""`feedrank rollback`: readers go back to what they read before the route's last change."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated

import typer

from feedrank.shadow import readers, who
from streams.route_board import RouteBoard, rolled_back
from streams.settings import Settings

Again = Annotated[bool, typer.Option("--again", help="Also where the last change was a rollback: undo that.")]


def rollback(again: Again = False) -> None:
    """Take the last change of the route back."""
    settings = Settings.load()
    with RouteBoard(settings.redis, settings.worker.namespace) as board:
        before, after = board.change(
            partial(rolled_back, at_ms=time.time_ns() // 1_000_000, by=who(), again=again)
        )
    print(f"before: {readers(before)}")
    print(f"now:    {readers(after)}")
    print("readers follow within a second")
