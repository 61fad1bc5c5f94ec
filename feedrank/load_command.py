"""`feedrank load uboot|ranklens|jsonl FILE`: real data onto the topics, with a progress bar (step 1)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from feedrank.load import jsonl, ranklens, uboot
from feedrank.load.events import Event, Tally, Told
from feedrank.load.send import Sender, encoder
from streams.concerns import KafkaSettings
from streams.errors import ExitCode, OperatorError
from streams.registry import Registry
from streams.settings import Settings
from streams.topics_admin import TopicsAdmin
from wire.names import ACTIVITIES, ITEMS

app = typer.Typer(help="Turn real data into activities and items on the topics.")

File = Annotated[Path, typer.Argument(help="Plain or gzip.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad line.")]
Follows = Annotated[Path | None, typer.Option("--follows", help="TSV: seconds, follower, followee.")]


Read = Callable[[Tally, Told], Iterable[Event]]
"""Reads the file anew at each call. Of files in time order an event is read when it is asked for."""


@app.command(name="uboot")
def load_uboot(file: File, follows: Follows = None, strict: Strict = False) -> None:
    """The U-Boot social stream: commits are items, reviews and the like activities."""
    _load(file, strict, lambda tally, told: uboot.events(file, tally, follows, told))


@app.command(name="ranklens")
def load_ranklens(file: File, strict: Strict = False) -> None:
    """RankLens: movies, rankings as impressions, clicks."""
    _load(file, strict, lambda tally, told: ranklens.events(file, tally, told))


@app.command(name="jsonl")
def load_jsonl(file: File, strict: Strict = False) -> None:
    """One JSON object a line: {"type": "item" | "activity", ...} with the fields of the topics' schemas."""
    _load(file, strict, lambda tally, told: jsonl.events(file, tally, told))


def _load(file: Path, strict: bool, read: Read) -> None:
    """Check what may refuse all of the file, then send it as it is read. It is never held as a whole here."""
    settings = Settings.load()
    admin = TopicsAdmin(settings.kafka, settings.names)
    for topic in (ITEMS, ACTIVITIES):
        admin.partitions(topic)
    retention_ms = admin.retention_ms(ACTIVITIES)
    tally = Tally(strict)
    with _progress() as progress:
        if strict or retention_ms is not None:
            _readable_twice(file)
            _demand_kept(read(Tally(strict), _bar(progress, "checking")), retention_ms)
        sender = Sender(settings.kafka, encoder(settings.worker.format, _registry(settings.kafka)))
        for _ in sender.send(read(tally, _bar(progress, "sending"))):
            progress.update(
                progress.task_ids[-1], sent=f"{sender.sent.items + sender.sent.activities:,} sent"
            )
    _say(sender, tally)


def _progress() -> Progress:
    """Bars over the bytes of the file; none where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(
        *columns, TextColumn("{task.fields[sent]}"), console=console, disable=not console.is_terminal
    )


def _bar(progress: Progress, what: str) -> Told:
    task = progress.add_task(what, total=None, sent="")
    return lambda read, size: progress.update(task, completed=read, total=size)


def _registry(kafka: KafkaSettings) -> Registry | None:
    if kafka.schema_registry_url is None:
        return None
    auth = kafka.schema_registry_auth
    return Registry(kafka.schema_registry_url, auth.get_secret_value() if auth else None)


def _readable_twice(file: Path) -> None:
    if file.exists() and not file.is_file():
        raise OperatorError(
            f"{file} is not a regular file and has to be read twice: once to see that it can be sent, which "
            "--strict and a topic with a retention need. Write it to a file first",
            ExitCode.BAD_INPUT,
        )


def _demand_kept(events: Iterable[Event], retention_ms: int | None) -> None:
    """Read all, and refuse what is older than the topic keeps: Kafka deletes by the records' timestamps, so
    old data on a topic with short retention is gone at once. Nothing has been sent by then."""
    now_ms = time.time() * 1_000
    for event in events:
        if retention_ms is not None and event.time_ms < now_ms - retention_ms:
            day = time.strftime("%Y-%m-%d", time.gmtime(event.time_ms / 1_000))
            raise OperatorError(
                f"{ACTIVITIES} keeps {retention_ms / 86_400_000:g} days and this data has records of {day}: "
                "Kafka would delete them at once. `feedrank topics create --keep-all` lets the topic keep "
                "everything",
                ExitCode.TOPICS_WRONG,
            )


def _say(sender: Sender, tally: Tally) -> None:
    print(f"sent {sender.sent.items} items and {sender.sent.activities} activities")
    for reason, count in tally.skipped.items():
        print(f"skipped {count} lines ({reason})")
    if tally.bad:
        print(f"passed over {tally.bad} bad lines; --strict stops at the first:")
        for line in tally.shown:
            print(f"  {line}")
