"""`feedrank replay`: rows, item statistics and settled feeds of the past, in a shadow namespace (1 to 11)."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Annotated

import typer

from feedrank.replaying.plan import Wish, plan, time_ms
from feedrank.replaying.work import carry_out, log_of, told
from models.policy import parse_policy
from streams.errors import ExitCode, OperatorError
from streams.policy_file import policy_text, read_policy
from streams.settings import Settings
from topologies.model_watch import folders_of, scorer_from
from topologies.replay.custody import demand_alone, move, submit
from topologies.replay.guard import demand_shadow
from topologies.replay.job import Job, State
from topologies.replay.models import keep_models, with_model
from topologies.replay.shadow import Definition, Shadow, Sink
from wire.names import Namespace

Files = Annotated[
    list[Path] | None,
    typer.Argument(
        help="JSON lines (.gz too), Avro containers or Parquet; none: the topics.", metavar="FILES"
    ),
]
Into = Annotated[str, typer.Option(help="The shadow namespace to make.")]
From = Annotated[
    str | None, typer.Option("--from", help="Of topics: first time, ms or ISO 8601 with a zone.")
]
To = Annotated[str | None, typer.Option(help="First time that is no more in it; feeds are settled then.")]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="Another policy; none: FEEDRANK_POLICY.")]
Model = Annotated[
    Path | None,
    typer.Option(help="Rank with this trained model, in place of those that the policy names."),
]
Users = Annotated[
    str,
    typer.Option(help="Whose feeds to make: ids by commas, @FILE, or a share as 1%. Rows are everyone's."),
]
Jobs = Annotated[int, typer.Option(min=1, max=64, help="Processes.")]
Partitions = Annotated[
    int | None,
    typer.Option(min=1, max=10_000, help="Of the shadow; none: 4, or as the topics."),
]
Feeds = Annotated[
    str, typer.Option(help="redis; files: kept in the shadow's directory; none: rows and statistics only.")
]
Submit = Annotated[bool, typer.Option("--submit", help="Only submit it; `feedrank jobs resume` begins it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")]


def replay(
    files: Files = None,
    into: Into = "",
    from_: From = None,
    to: To = None,
    policy: PolicyFile = None,
    model: Model = None,
    users: Users = "",
    jobs: Jobs = 1,
    partitions: Partitions = None,
    feeds: Feeds = "redis",
    dry_run: DryRun = False,
    submit_only: Submit = False,
) -> None:
    """Build rows, item statistics and feeds of the past in a shadow namespace."""
    settings = Settings.load()
    names = _shadow_names(into)
    sinks: dict[str, Sink] = {"redis": "redis", "files": "files", "none": "none"}
    if feeds not in sinks:
        raise OperatorError(f"--feeds {feeds}: write redis, files or none")
    sink = sinks[feeds]
    wish = Wish(
        names.name,
        tuple(files or ()),
        None if from_ is None else time_ms(from_, "--from"),
        None if to is None else time_ms(to, "--to"),
        partitions,
        users,
        sink,
        jobs,
    )
    _demand_new(settings, names, sink, bool(wish.files))
    Shadow.of(settings.worker.data_dir, names).demand_empty()
    text, folders = _ranking(policy or settings.worker.policy, model)
    found = plan(wish, settings, text, f"r{uuid.uuid4().hex[:8]}")
    demand_alone(log_of(settings, found.definition), found.definition.job, into)
    for line in found.lines():
        print(line)
    if dry_run:
        return
    job = _defined(settings, found.definition, folders)
    print(f"job      {job.id}", flush=True)
    if submit_only:
        return
    done = carry_out(settings, log_of(settings, found.definition), job, jobs)
    print(told(done))
    if done.state is not State.FINISHED:
        raise typer.Exit(ExitCode.INTERRUPTED)


def _shadow_names(into: str) -> Namespace:
    if not into:
        raise OperatorError("--into is missing; name the shadow namespace to make, for example --into june")
    try:
        return Namespace(into)
    except ValueError as error:
        raise OperatorError(f"--into: {error}") from error


def _ranking(policy: Path | None, model: Path | None) -> tuple[str, dict[str, Path]]:
    """The text of the policy, and the folders of the models that it ranks with; all of it was loaded once.

    Raises OperatorError for what cannot be used.
    """
    checked, text = read_policy(policy), policy_text(policy)
    if model is None:
        folders = folders_of(checked.model, Path() if policy is None else policy.parent)
    else:
        text, folders = with_model(text), {"light": model}
        checked = parse_policy(text)
    scorer_from(checked, folders)
    return text, folders


def _demand_new(settings: Settings, names: Namespace, sink: Sink, files: bool) -> None:
    """Raises OperatorError for a namespace that a job or readers use."""
    demand_shadow(settings, names, topics=sink == "redis" or not files, feeds=sink == "redis")


def _defined(settings: Settings, one: Definition, folders: dict[str, Path]) -> Job:
    """The job of a new shadow; nothing stays behind where it cannot be made."""
    shadow, log = Shadow.of(settings.worker.data_dir, one.names), log_of(settings, one)
    shadow.define(one)
    job: Job | None = None
    try:
        keep_models(shadow, folders)
        job = submit(log, one.job, one.namespace, shadow.directory)
        # another one may have begun and ended since it was looked at
        _demand_new(settings, one.names, one.sink, one.source == "files")
    except OperatorError as error:
        if job is not None:
            move(log, job, State.CANCELLED, error.message)
        shutil.rmtree(shadow.directory, ignore_errors=True)
        raise
    return job
