"""Replays in one process, for tests: events of the oracle's kind into a spool, steps one after the other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from feedrank.load.events import Event, ItemEvent
from feedrank.load.send import encoder
from models.policy import parse_policy
from streams.settings import Settings
from tests.oracle.records import Activity, Item
from topologies.digest import Digest
from topologies.digest_sources import digest_directory, digest_feed_stores
from topologies.replay.feeds import settle_feeds
from topologies.replay.shadow import Definition, Shadow
from topologies.replay.spool import Record, Spool
from topologies.replay.steps import Steps
from wire.names import ACTIVITIES, ITEMS

TICK_MS = 10_000
BUNDLED = files("models").joinpath("default_policy.toml").read_text()


def records(events: Iterable[Event]) -> Iterator[Record]:
    """As `feedrank load` would send them."""
    encode = encoder("avro")
    for event in events:
        topic = ITEMS if isinstance(event, ItemEvent) else ACTIVITIES
        yield Record(topic, event.key.encode(), encode(event), event.time_ms)


def as_event(event: Item | Activity) -> Event:
    """What a reader of files would make of it."""
    from tests.integration.test_oracle import as_event as made

    return made(event)


def settings(directory: Path, **values: object) -> Settings:
    """Settings with slices of 700 records at most."""
    names = {"FEEDRANK_DATA_DIR": str(directory), "REPLAY_RECORDS_MAX": "700"}
    return Settings.load(names | {name: str(value) for name, value in values.items()})


def define(
    directory: Path, name: str, events: Iterable[Event], end_ms: int, partitions: int = 4, **more: Any
) -> Shadow:
    """A shadow over events, spooled. Feeds go to files."""
    shadow = Shadow(directory / name)
    as_of_ms = -(-end_ms // TICK_MS) * TICK_MS
    empty = dict.fromkeys(range(partitions), 0)
    one = Definition(
        "job-1", name, "files", partitions, empty, empty, BUNDLED, TICK_MS, as_of_ms, sink="files"
    )
    shadow.define(replace(one, **more))
    ends = Spool(shadow.spool).make(records(events), partitions)
    shadow.amend(replace(one, ends=ends, **more))
    return shadow


def steps_of(shadow: Shadow, given: Settings, rows_max: int = 0) -> Steps:
    """A process that has just started."""
    one = shadow.definition()
    return Steps(shadow, one, given, parse_policy(one.policy), Spool(shadow.spool), rows_max=rows_max)


def run_all(
    shadow: Shadow, given: Settings, chance: random.Random | None = None, rows_max: int = 0
) -> Digest:
    """All steps to their end; with `chance`, stopped and begun anew in a new process again and again."""
    one = shadow.definition()

    def to_its_end(step: Callable[[Steps, Callable[[int], bool]], Any]) -> None:
        while True:
            left = chance.randint(1, 8) if chance else 1 << 60

            def moved(count: int) -> bool:
                nonlocal left
                left -= 1
                return left > 0

            if asyncio.run(step(steps_of(shadow, given, rows_max), moved)):
                return

    partitions = list(range(one.partitions))
    if chance:
        chance.shuffle(partitions)
    for partition in partitions:
        to_its_end(lambda steps, moved, p=partition: steps.users(p, moved))
    for partition in partitions:
        to_its_end(lambda steps, moved, p=partition: steps.item_rows(p, moved))
    for partition in partitions:
        to_its_end(lambda steps, moved, p=partition: steps.features(p, one.as_of_ms, lambda count: True))
    for partition in partitions:
        to_its_end(lambda steps, moved, p=partition: settle_feeds(steps, p, one.as_of_ms, moved))
    return digest_of(shadow)


def digest_of(shadow: Shadow) -> Digest:
    """Of what lies in the shadow's directory."""
    found = digest_directory(shadow.directory)
    assert found is not None
    found.feeds = digest_feed_stores(shadow.directory)
    return found
