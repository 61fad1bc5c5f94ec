"""`feedrank jobs list | show | pause | resume | cancel`: replays, where they stand and who moved them."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from feedrank.replaying.work import carry_out, clear, told
from streams.errors import ExitCode, OperatorError
from streams.settings import Settings
from topologies.replay.custody import move, now_ms
from topologies.replay.job import Job, State
from topologies.replay.job_log import FileJobLog, JobLog, KafkaJobLog

app = typer.Typer(help="List, show, pause, resume and cancel replays.")

Id = Annotated[str, typer.Argument(metavar="ID", help="The job's id, as `feedrank jobs list` has it.")]
Processes = Annotated[int, typer.Option("--jobs", min=1, max=64, help="Processes.")]


@app.command(name="list")
def list_jobs() -> None:
    """All jobs, the oldest first."""
    table = Table(box=None, pad_edge=False)
    for column in ("job", "namespace", "state", "done", "since", "by"):
        table.add_column(column, no_wrap=True)
    found, silent = _all(Settings.load())
    for job, _ in found:
        share = f"{100 * job.done // job.total} % of a phase" if job.total and not job.over else ""
        table.add_row(job.id, job.namespace, _standing(job), share, _at(job.holder.at_ms), job.holder.who)
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    if silent:
        print(f"only jobs of this data directory: {silent}")


@app.command()
def show(job_id: Id) -> None:
    """Every transition of a job: when, to which state, by whom, why."""
    job, _ = _find(job_id)
    for name, value in (
        ("job", job.id),
        ("namespace", job.namespace),
        ("directory", job.directory),
        ("state", _standing(job)),
    ):
        print(f"{name:9} {value}")
    for one in job.history:
        note = f": {one.note}" if one.note else ""
        process = f", process {one.pid} on {one.host}" if one.pid else ""
        print(f"{one.version:4} {_at(one.at_ms)} {one.state} by {one.who}{process}{note}")


@app.command()
def pause(job_id: Id) -> None:
    """Let a running job stop at its next checkpoint."""
    job, log = _find(job_id)
    job = move(log, job, State.PAUSED)
    print(told(job))


@app.command()
def resume(job_id: Id, jobs: Processes = 1) -> None:
    """Go on with a job that is paused, failed, was never begun, or whose process died."""
    settings = Settings.load()
    job, log = _find(job_id)
    done = carry_out(settings, log, job, jobs)
    print(told(done))
    if done.state is not State.FINISHED:
        raise typer.Exit(ExitCode.INTERRUPTED)


@app.command()
def cancel(job_id: Id) -> None:
    """Give a job up and delete what it made."""
    settings = Settings.load()
    job, log = _find(job_id)
    if job.state is not State.CANCELLED:
        job = move(log, job, State.CANCELLED)
    try:
        clear(settings, job)
    except OperatorError as error:
        if error.exit_code is not ExitCode.FENCED:
            raise
        print(f"{told(job)}; its process stops within moments and deletes what it made")
        return
    print(f"{told(job)}{_what_is_left(job)}")


def _what_is_left(job: Job) -> str:
    made = job.history[0]
    if Path(job.directory).exists():
        return ""
    if made.host != socket.gethostname():
        return f"; cancel it on {made.host} too, where what it made lies in {made.directory}"
    return "; what it made is deleted"


def _all(settings: Settings) -> tuple[list[tuple[Job, JobLog]], str]:
    """Jobs of both logs, and why Kafka's are missing, if they are."""
    local: JobLog = FileJobLog(settings.worker.data_dir)
    found = [(job, local) for job in local.jobs().values()]
    shared: JobLog = KafkaJobLog(settings.kafka)
    try:
        found += [(job, shared) for job in shared.jobs().values()]
    except OperatorError as error:
        return found, error.message
    return found, ""


def _find(job_id: str) -> tuple[Job, JobLog]:
    settings = Settings.load()
    local = FileJobLog(settings.worker.data_dir)
    job = local.jobs().get(job_id)
    if job is not None:
        return job, local
    found, silent = _all(settings)
    for one, log in found:
        if one.id == job_id:
            return one, log
    raise OperatorError(
        f"there is no job {job_id}"
        + (f", as far as can be seen ({silent})" if silent else "")
        + "; `feedrank jobs list` shows which there are",
        ExitCode.BAD_INPUT,
    )


def _standing(job: Job) -> str:
    if job.state is State.RUNNING and job.lease_until_ms < now_ms():
        return f"running, but its lease is over: its process died; `feedrank jobs resume {job.id}`"
    return str(job.state)


def _at(at_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1_000))
