"""`feedrank dataset`: what was served and what came of it, as one Parquet file to train and evaluate on."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from feedrank.dataset import events as files
from feedrank.dataset import topics
from feedrank.dataset.rows import Wanted, rows
from feedrank.dataset.table import Writer
from feedrank.load import jsonl, openbandit, ranklens
from feedrank.load.events import Event, Tally
from models.fingerprint import fp64
from models.labels import join
from streams.errors import ExitCode, OperatorError
from streams.policy_file import read_policy
from streams.settings import Settings
from streams.topics_admin import TopicsAdmin
from topologies.past import Past
from wire.names import ACTIVITIES

app = typer.Typer(help="Make a data set: what was served and what came of it, as Parquet.")

CLICK_DELAY_S = 5
PLAIN_EVERY_S = 10.0

Out = Annotated[Path, typer.Argument(help="The Parquet file to write.")]
File = Annotated[Path, typer.Argument(help="Plain or gzip.")]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="The policy; none: FEEDRANK_POLICY.")]
Window = Annotated[int | None, typer.Option(min=1, help="Label window of all verbs, in s.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad line.")]
Valid = Annotated[float, typer.Option(min=0, max=0.9, help="Share of impressions to tune on, by time.")]
Test = Annotated[float, typer.Option(min=0, max=0.9, help="Share of impressions to test on, the last ones.")]


@dataclass(frozen=True, slots=True)
class _Options:
    out: Path
    policy: Path | None
    window_s: int | None
    shares: tuple[float, float]
    source: str
    candidates: bool = False


@app.command(name="topics")
def from_topics(
    out: Out,
    served: Annotated[
        Path | None, typer.Option(help="Served records, one JSON object a line; none: the topic.")
    ] = None,
    candidates: Annotated[
        bool, typer.Option("--candidates", help="Also candidates that were not shown.")
    ] = False,
    policy: PolicyFile = None,
    window_s: Window = None,
    valid: Valid = 0.15,
    test: Test = 0.15,
) -> None:
    """From the served log and the activities of a namespace (FEEDRANK_NAMESPACE)."""
    settings = Settings.load()
    options = _Options(out, policy, window_s, (valid, test), settings.names.served, candidates)
    verbs = read_policy(policy or settings.worker.policy).verbs
    partitions = TopicsAdmin(settings.kafka, settings.names).partitions(ACTIVITIES)
    past = topics.past_of(settings, verbs, partitions, served)
    if not past.served:
        raise OperatorError(
            f"{served or settings.names.served} holds no served feeds; run a worker first, or name a file "
            "with --served",
            ExitCode.BAD_INPUT,
        )
    _make(past, options, settings, {})


@app.command(name="jsonl")
def from_jsonl(
    file: File,
    out: Out,
    policy: PolicyFile = None,
    window_s: Window = None,
    valid: Valid = 0.15,
    test: Test = 0.15,
    strict: Strict = False,
) -> None:
    """From items and activities as `feedrank load jsonl` reads them; impressions say what was shown."""
    options = _Options(out, policy, window_s, (valid, test), str(file.name))
    _from_events(lambda tally: jsonl.events(file, tally), options, strict)


@app.command(name="ranklens")
def from_ranklens(
    file: File,
    out: Out,
    policy: PolicyFile = None,
    window_s: Window = CLICK_DELAY_S,
    valid: Valid = 0.15,
    test: Test = 0.2,
    strict: Strict = False,
) -> None:
    """From RankLens. Its clicks come 5 s after their ranking, so that is the window."""
    options = _Options(out, policy, window_s, (valid, test), "ranklens")
    _from_events(lambda tally: ranklens.events(file, tally), options, strict)


@app.command(name="openbandit")
def from_openbandit(
    file: File,
    out: Out,
    policy: PolicyFile = None,
    window_s: Window = 1,
    valid: Valid = 0.15,
    test: Test = 0.15,
    strict: Strict = False,
) -> None:
    """From a file of Open Bandit, with its propensities. Clicks are dated like their impressions."""
    options = _Options(out, policy, window_s, (valid, test), f"openbandit {file.name}")
    shown = {(fp64(o.visitor.encode()), fp64(o.slate_id.encode())): o for o in openbandit.read(file, Tally())}
    propensity = {key: one.propensity for key, one in shown.items()}
    _from_events(lambda tally: openbandit.events(file, tally), options, strict, propensity)


def _from_events(
    read: Callable[[Tally], Iterator[Event]],
    options: _Options,
    strict: bool,
    propensity: dict[tuple[int, int], float] | None = None,
) -> None:
    settings, tally = Settings.load(), Tally(strict)
    verbs = read_policy(options.policy or settings.worker.policy).verbs
    past = files.past_of(read(tally), verbs)
    if tally.bad:
        past.counts["bad lines passed over (--strict stops at the first)"] = tally.bad
        print("\n".join(["bad lines, the first of them:", *tally.shown]), file=sys.stderr)
    _make(past, options, settings, propensity or {})


def _make(
    past: Past, options: _Options, settings: Settings, propensity: dict[tuple[int, int], float]
) -> None:
    policy = read_policy(options.policy or settings.worker.policy)
    labelled = join(past.partitions, policy.verbs, options.window_s)
    if not len(labelled):
        raise OperatorError(_nothing(labelled.counts, options.source), ExitCode.BAD_INPUT)
    counts = past.counts + labelled.counts
    tick_ms = settings.ranking.tick_s * 1_000
    wanted = Wanted(
        past,
        labelled,
        policy,
        settings.names.name,
        tick_ms,
        settings.ranking.items_live_max,
        options.candidates,
        propensity,
        options.window_s,
        options.shares,
    )
    with Writer(options.out) as writer, _progress() as progress:
        for columns, features in rows(wanted, counts, progress):
            writer.add(columns, features)
        if not writer.rows:
            raise OperatorError(_nothing(counts, options.source), ExitCode.BAD_INPUT)
        writer.meta |= _meta(wanted, options, +counts)
    print(f"wrote {writer.rows} rows to {options.out}")
    for name, count in (+counts).items():
        print(f"  {count} {name}")


def _meta(wanted: Wanted, options: _Options, counts: Counter[str]) -> dict[str, Any]:
    times = wanted.labelled.time_ms
    return {
        "source": options.source,
        "policy": wanted.policy.version,
        "tick_ms": wanted.tick_ms,
        "label_window_s": options.window_s,
        "from_ms": int(times.min()),
        "to_ms": int(times.max()),
        "candidates": options.candidates,
        "counts": dict(counts),
    }


def _nothing(counts: Counter[str], source: str) -> str:
    told = "; ".join(f"{count} {name}" for name, count in (+counts).items()) or "no impressions at all"
    return (
        f"{source} gives no row: {told}. A row is an impression whose label window is over; send impressions "
        "with the slate_id that came with the page, or shorten --window-s"
    )


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, a plain line every few seconds elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("rebuilding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    said = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("rebuilding")

        def tell(done: int, total: int) -> None:
            nonlocal said
            bar.update(task, completed=done, total=total)
            if not console.is_terminal and time.monotonic() - said >= PLAIN_EVERY_S:
                said = time.monotonic()
                print(f"rebuilt {done} of {total} slates", file=sys.stderr, flush=True)

        yield tell
