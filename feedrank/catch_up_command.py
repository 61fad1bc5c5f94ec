"""`feedrank catch-up NS`: a finished replay goes on live, a worker of its namespace from where it ended."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from feedrank.replaying.work import log_of
from streams.errors import ExitCode, OperatorError
from streams.settings import Settings
from streams.transport import run_worker
from topologies.replay.custody import locked
from topologies.replay.job import Job, State
from topologies.replay.seed import POLICY_FILE, Seeder
from topologies.replay.shadow import Definition, Shadow
from topologies.start import prepare
from wire.names import Namespace

Name = Annotated[str, typer.Argument(metavar="NAMESPACE")]
SeedOnly = Annotated[bool, typer.Option("--seed-only", help="Fill its topics; start no worker.")]


def catch_up(namespace: Name, seed_only: SeedOnly = False) -> None:
    """Let a shadow namespace go on live from where its replay ended."""
    settings = Settings.load()
    try:
        names = Namespace(namespace)
    except ValueError as error:
        raise OperatorError(str(error)) from error
    if names.name == settings.worker.namespace:
        raise OperatorError(
            f"{namespace} is this installation's own (FEEDRANK_NAMESPACE): start workers of it with "
            "`feedrank worker`; catch-up is for a shadow beside it"
        )
    shadow = Shadow.of(settings.worker.data_dir, names)
    one = shadow.definition()
    job = _finished(settings, one)
    seeder = Seeder(settings.kafka, shadow, one)
    if not seeder.done:
        with locked(job, shadow.directory):
            _seed(seeder)
    if seed_only:
        print(f"{namespace}: workers of it start with {_variables(shadow, one)} feedrank worker")
        return
    given = _worker_settings(shadow, one)
    sys.stderr.flush()
    raise typer.Exit(run_worker(prepare(Settings.load(given))))


def _finished(settings: Settings, one: Definition) -> Job:
    """The replay's job. Raises OperatorError unless it is finished and its positions are the topics'."""
    if one.source != "kafka":
        raise OperatorError(
            f"{one.namespace} was made from files: its positions are not offsets of the topics, so nobody "
            "knows where to go on. Load the files onto the topics, and replay those",
            ExitCode.BAD_INPUT,
        )
    job = log_of(settings, one).jobs().get(one.job)
    if job is None or job.state is not State.FINISHED:
        state = "unknown" if job is None else job.state
        raise OperatorError(
            f"the replay into {one.namespace} is {state}, not finished; `feedrank jobs resume {one.job}` "
            "goes on with it",
            ExitCode.BAD_INPUT,
        )
    return job


def _seed(seeder: Seeder) -> None:
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("rows to the topics: {task.completed:,.0f}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("seeding", total=None)
        seeder.told = lambda count: progress.advance(task, count)
        seeder.seed()
    print(f"{seeder.definition.namespace}: its rows are in its topics", flush=True)


def _worker_settings(shadow: Shadow, one: Definition) -> dict[str, str]:
    """What of the settings the replay has decided."""
    return {
        "FEEDRANK_NAMESPACE": one.namespace,
        "FEEDRANK_POLICY": str((shadow.directory / POLICY_FILE).absolute()),
        "FEEDRANK_FORMAT": one.value_format,
        "TICK_S": str(one.tick_ms // 1_000),
    }


def _variables(shadow: Shadow, one: Definition) -> str:
    return " ".join(f"{name}={value}" for name, value in _worker_settings(shadow, one).items())
