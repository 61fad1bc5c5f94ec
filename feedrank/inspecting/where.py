"""Where rows and items of a namespace are read: its topics, or the directory of its replay."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from feedrank.dataset.topics import items_of
from feedrank.inspecting.names import Names
from models.item_columns import ItemRecord
from models.policy import Policy, parse_policy
from streams.data_dir import claimed
from streams.errors import OperatorError
from streams.policy_file import read_policy
from streams.settings import Settings
from topologies.replay.pool import open_steps
from topologies.replay.shadow import END_OF_DATA, Shadow
from topologies.shadow_feeds import on_disk
from topologies.stored_rows import DiskRows, StoredRows, TopicRows
from wire.names import Namespace

TOLD_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """An opened namespace. `as_of_ms`: when a replay settled its feeds; None for a live one."""

    rows: StoredRows
    policy: Policy
    names: Callable[[], Names]
    as_of_ms: int | None
    words: str


@contextmanager
def opened(settings: Settings, names: Namespace, rows: str = "auto") -> Iterator[Place]:
    """`rows`: topics, disk, or auto: disk for a replay's namespace. Raises OperatorError."""
    if rows not in ("auto", "topics", "disk"):
        raise OperatorError(f"--rows {rows}: write auto, topics or disk")
    shadow = Shadow.of(settings.worker.data_dir, names)
    if rows == "disk" and not shadow.exists:
        raise OperatorError(
            f"there is no replay in {shadow.directory}; read its topics (--rows topics), or correct "
            "FEEDRANK_DATA_DIR: a worker's own directory lags behind its topics and is not read"
        )
    if rows == "disk" or (rows == "auto" and on_disk(shadow)):
        one = shadow.definition()
        policy = parse_policy(one.policy, str(shadow.directory))
        as_of_ms = None if one.as_of_ms == END_OF_DATA else one.as_of_ms
        with claimed(shadow.directory):
            stored = DiskRows(shadow.directory, one.partitions)
            yield Place(stored, policy, lambda: _spooled(shadow, settings), as_of_ms, str(shadow.directory))
        return
    with TopicRows(settings.kafka, names) as topics:
        policy = (
            parse_policy(shadow.definition().policy, str(shadow.directory))
            if shadow.exists
            else read_policy(settings.worker.policy)
        )
        yield Place(topics, policy, lambda: _produced(settings), None, "the changelog topics")


def _spooled(shadow: Shadow, settings: Settings) -> Names:
    """Of the items that the replay read."""
    index = asyncio.run(open_steps(shadow.directory, settings).catalogue()).index
    slots = [slot for slot in range(len(index.ids)) if index.live[slot]]
    return Names.of(
        ItemRecord(
            index.ids[slot],
            index.author_ids[int(index.author[slot])],
            int(index.created_ms[slot]),
            tuple(index.topic_ids[topic] for topic in index.topics[slot].tolist() if topic >= 0),
            None,
            index.title[slot],
        )
        for slot in slots
    )


def _produced(settings: Settings) -> Names:
    """Of the items topic; the last version of each."""
    found = {change.fp: change.record for change in items_of(settings)}
    return Names.of(record for record in found.values() if record is not None)


def teller(what: str) -> Callable[[int, int], None]:
    """Says every few seconds on stderr how far a reading is."""
    said = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= TOLD_EVERY_S:
            said = time.monotonic()
            print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)

    return tell
