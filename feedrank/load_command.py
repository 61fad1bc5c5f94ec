"""`feedrank load uboot|ranklens|jsonl FILE`: real data onto the topics, with a progress bar (step 1)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from feedrank.load import jsonl, ranklens, uboot
from feedrank.load.events import Event, Tally
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


@app.command(name="uboot")
def load_uboot(file: File, follows: Follows = None, strict: Strict = False) -> None:
    """The U-Boot social stream: commits are items, reviews and the like activities."""
    tally = Tally(strict)
    _load(uboot.events(file, tally, follows), tally)


@app.command(name="ranklens")
def load_ranklens(file: File, strict: Strict = False) -> None:
    """RankLens: movies, rankings as impressions, clicks."""
    tally = Tally(strict)
    _load(ranklens.events(file, tally), tally)


@app.command(name="jsonl")
def load_jsonl(file: File, strict: Strict = False) -> None:
    """One JSON object a line: {"type": "item" | "activity", ...} with the fields of the topics' schemas."""
    tally = Tally(strict)
    _load(jsonl.events(file, tally), tally)


def _load(events: Iterator[Event], tally: Tally) -> None:
    settings = Settings.load()
    admin = TopicsAdmin(settings.kafka, settings.names)
    for topic in (ITEMS, ACTIVITIES):
        admin.partitions(topic)
    read = list(events)
    if read:
        _outlives_retention(admin, min(event.time_ms for event in read))
    sender = Sender(settings.kafka, encoder(settings.worker.format, _registry(settings.kafka)))
    console = Console(stderr=True)
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("sending", total=len(read))
        for done in sender.send(read):
            progress.advance(task, done)
    _say(sender, tally)


def _registry(kafka: KafkaSettings) -> Registry | None:
    if kafka.schema_registry_url is None:
        return None
    auth = kafka.schema_registry_auth
    return Registry(kafka.schema_registry_url, auth.get_secret_value() if auth else None)


def _outlives_retention(admin: TopicsAdmin, oldest_ms: int) -> None:
    """Kafka deletes by the records' timestamps: old data on a topic with short retention is gone at once."""
    retention_ms = admin.retention_ms(ACTIVITIES)
    if retention_ms is not None and oldest_ms < time.time() * 1_000 - retention_ms:
        day = time.strftime("%Y-%m-%d", time.gmtime(oldest_ms / 1_000))
        raise OperatorError(
            f"{ACTIVITIES} keeps {retention_ms / 86_400_000:g} days and this data begins on {day}: Kafka "
            "would delete it at once. `feedrank topics create --keep-all` lets the topic keep everything",
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
