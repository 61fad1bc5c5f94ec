"""`feedrank topics check | create`: the topics of the namespace, and the group's lag."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from streams.errors import ExitCode
from streams.settings import Settings
from streams.topics import Report, desired
from streams.topics_admin import Lag, TopicsAdmin
from wire.names import ACTIVITIES, Namespace

app = typer.Typer(help="Check or create the topics; show the lag.")

Partitions = Annotated[
    int | None,
    typer.Option(min=1, max=10_000, help="Of activities and all that follow it; fixed ever after."),
]
KeepAll = Annotated[
    bool, typer.Option("--keep-all", help="Activities are kept for ever; needed to load old data.")
]
Replication = Annotated[int, typer.Option(help="Copies of each partition; -1: the broker's default.")]


@app.command()
def check() -> None:
    """Compare the topics with what the namespace needs; exit 4 when the worker would refuse to start."""
    admin, names = _admin()
    report = admin.check()
    _print(names, report, admin.lag() if ACTIVITIES in report.found else [])
    if report.errors:
        raise typer.Exit(ExitCode.TOPICS_WRONG)


@app.command()
def create(partitions: Partitions = None, replication: Replication = -1, keep_all: KeepAll = False) -> None:
    """Create what is missing; leave what is there as it is, and say what is wrong with it."""
    admin, _ = _admin()
    made = admin.create(partitions, replication)
    for name in made:
        print(f"created {name}")
    if keep_all:
        admin.keep_all()
    if not made:
        print("all topics are there")
    report = admin.check()
    for finding in report.findings:
        if finding.severity == "warning":  # errors come once, as what ends the command
            print(finding)
    report.demand()


def _admin() -> tuple[TopicsAdmin, Namespace]:
    settings = Settings.load()
    return TopicsAdmin(settings.kafka, settings.names), settings.names


def _print(names: Namespace, report: Report, lags: list[Lag]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("topic", "partitions", "replication", "cleanup", "what"):
        table.add_column(column, no_wrap=True)
    for one in desired(names):
        there = report.found.get(one.name)
        counts = (str(there.partitions), str(there.replication)) if there else ("-", "-")
        policy = there.config.get("cleanup.policy", "?") if there else "missing"
        table.add_row(one.name, *counts, policy, one.role)
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    for lag in lags:
        at = "never committed" if lag.committed < 0 else f"at {lag.committed}"
        print(f"lag of {names.group} on {lag.topic} {lag.partition}: {lag.records} ({at} of {lag.end})")
    for finding in report.findings:
        print(finding)
    if not report.findings:
        print("all well")
