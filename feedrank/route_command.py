"""`feedrank route show | canary`: which namespace readers follow, and a share of them for a trial."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from feedrank.promote_command import LAG_RECORDS_MAX, LagMax
from feedrank.shadow import demand, demand_no_replay, readers, standing, who
from streams.route_board import RouteBoard
from streams.route_board import canary as with_canary
from streams.settings import Settings
from topologies.replay.job_log import KafkaJobLog
from wire.route import Change, Split

app = typer.Typer(help="Show which namespace is read; send a share of the users to another.")


@app.command()
def show() -> None:
    """Who reads what, and what the route was, newest first."""
    settings = Settings.load()
    with RouteBoard(settings.redis, settings.worker.namespace) as board:
        route = board.read()
    print(readers(route))
    for change in reversed(route.history):
        print(_line(change))


@app.command()
def canary(
    namespace: Annotated[str, typer.Argument(help="Read by a share of the users.")],
    share: Annotated[float, typer.Option(min=0, max=1, help="0.01: one user in a hundred; 0: nobody.")],
    salt: Annotated[str, typer.Option(help="Another salt draws other users.")] = "canary",
    lag_max: LagMax = LAG_RECORDS_MAX,
) -> None:
    """Send a share of the users to a namespace."""
    settings = Settings.load()
    with RouteBoard(settings.redis, settings.worker.namespace) as board:
        if share:
            shadow = standing(settings, board, namespace)
            demand_no_replay(KafkaJobLog(settings.kafka), namespace)
            demand(shadow, shadow, lag_max, 0.0)
        split = Split(namespace, share, salt)
        before, after = board.change(
            partial(with_canary, split=split, at_ms=time.time_ns() // 1_000_000, by=who())
        )
    print(f"before: {readers(before)}")
    print(f"now:    {readers(after)}")


def _line(change: Change) -> str:
    at = datetime.fromtimestamp(change.at_ms / 1_000, UTC).isoformat(timespec="seconds")
    splits = "".join(f", {split.share:.2%} {split.namespace}" for split in change.splits)
    said = f"{at}  {change.action} by {change.by}" if change.at_ms else change.action
    return f"  {change.version:4d}  {said}: {change.default}{splits}"
