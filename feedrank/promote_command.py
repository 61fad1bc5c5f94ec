"""`feedrank promote NAMESPACE`: send all readers to a namespace, in one step, if it is ready."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated

import typer

from feedrank.shadow import demand, demand_no_replay, readers, standing, who
from streams.route_board import RouteBoard, promoted
from streams.settings import Settings
from topologies.replay.job_log import KafkaJobLog

LAG_RECORDS_MAX = 1_000
SMALLER_SHARE_MAX = 0.01

LagMax = Annotated[int, typer.Option(help="How many records the namespace may be behind.", min=0)]
SmallerMax = Annotated[
    float,
    typer.Option(help="How many fewer feeds it may have: a share of what is read now.", min=0, max=1),
]


def promote(
    namespace: Annotated[str, typer.Argument(help="The namespace that everybody reads from now on.")],
    lag_max: LagMax = LAG_RECORDS_MAX,
    smaller_max: SmallerMax = SMALLER_SHARE_MAX,
) -> None:
    """Send all readers to a namespace; `feedrank rollback` takes it back."""
    settings = Settings.load()
    with RouteBoard(settings.redis, settings.worker.namespace) as board:
        now = board.read()
        shadow, live = (standing(settings, board, name) for name in (namespace, now.default))
        demand_no_replay(KafkaJobLog(settings.kafka), namespace)
        demand(shadow, live, lag_max, smaller_max)
        before, after = board.change(
            partial(promoted, namespace=namespace, at_ms=time.time_ns() // 1_000_000, by=who())
        )
    print(f"before: {readers(before)}; {live}")
    print(f"now:    {readers(after)}; {shadow}")
    print("readers follow within a second; `feedrank rollback` takes it back")
