"""What a replay is going to do, said before it does anything."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from feedrank.replaying import read
from models.policy import parse_policy
from streams.errors import ExitCode, OperatorError
from streams.settings import Settings
from streams.topics import PARTITIONS_DEFAULT
from streams.topics_admin import TopicsAdmin
from topologies.replay.feeds import chooser
from topologies.replay.kafka_log import Range, find_range
from topologies.replay.shadow import END_OF_DATA, Definition, Sink
from topologies.ticks import tick_of
from wire.names import ACTIVITIES

RECORDS_PER_S = 50_000
"""Of one process, from a topic to rows on disk, on two shared cores; a first guess, the bar knows better."""
READ_RECORDS_PER_S = 15_000
"""Of files, by one process, before that: JSON lines; Avro a little more, Parquet twice as many."""
AHEAD_MS_MAX = 300_000


@dataclass(frozen=True, slots=True)
class Wish:
    """The command line of `feedrank replay`."""

    into: str
    files: tuple[Path, ...] = ()
    from_ms: int | None = None
    to_ms: int | None = None
    partitions: int | None = None
    users: str = ""
    sink: Sink = "redis"
    jobs: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done: `records` activities and items of files, activities of topics."""

    definition: Definition
    records: int
    jobs: int
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people."""
        one = self.definition
        source = ", ".join(one.files) if one.files else f"{ACTIVITIES}, {_offsets(one)}"
        at = "the tick after the newest event" if one.as_of_ms == END_OF_DATA else iso(one.as_of_ms)
        seconds = self.records / RECORDS_PER_S / min(self.jobs, one.partitions)
        seconds += self.records / READ_RECORDS_PER_S if one.files else 0
        processes = "1 process" if self.jobs == 1 else f"{self.jobs} processes"
        return [
            f"from     {source}",
            f"into     {one.namespace}, {one.partitions} partitions, feeds to {one.sink}",
            f"records  {self.records:,}" + (" lines" if one.files else ""),
            f"settled  at {at}" + (f", feeds of {one.users}" if one.users else ""),
            f"estimate {_duration(seconds)} for rows in {processes}, then feeds",
            *(f"warning: {one}" for one in self.warnings),
        ]


def plan(wish: Wish, settings: Settings, policy_text: str, job: str) -> Plan:
    """Raises OperatorError for whatever stands in the way of it."""
    parse_policy(policy_text, "the policy")
    chooser(wish.users)
    _check_times(wish)
    tick_ms = settings.ranking.tick_s * 1_000
    as_of_ms = END_OF_DATA if wish.to_ms is None else tick_of(wish.to_ms, tick_ms) * tick_ms
    empty = Definition(
        job,
        wish.into,
        "files" if wish.files else "kafka",
        wish.partitions or PARTITIONS_DEFAULT,
        {},
        {},
        policy_text,
        tick_ms,
        as_of_ms,
        wish.to_ms,
        value_format=settings.worker.format,
        sink=wish.sink,
        users=wish.users,
    )
    return _of_files(wish, empty) if wish.files else _of_topics(wish, settings, empty)


def _check_times(wish: Wish) -> None:
    if wish.from_ms is not None and wish.to_ms is not None and wish.from_ms >= wish.to_ms:
        raise OperatorError("--from is not before --to; nothing lies between them")
    if wish.to_ms is not None and wish.to_ms > time.time() * 1_000 + AHEAD_MS_MAX:
        raise OperatorError("--to lies in the future; feeds can only be settled at a time that has come")
    if wish.files and wish.from_ms is not None:
        raise OperatorError("--from is for topics; of files everything up to --to is replayed, as they are")


def _of_files(wish: Wish, one: Definition) -> Plan:
    records = sum(read.count(path) for path in wish.files)
    if not records:
        raise OperatorError(
            f"{', '.join(map(str, wish.files))}: nothing is in there; name files with activities",
            ExitCode.BAD_INPUT,
        )
    zeros = dict.fromkeys(range(one.partitions), 0)
    files = tuple(str(path.absolute()) for path in wish.files)
    return Plan(replace(one, starts=zeros, ends=zeros, files=files, lines=records), records, wish.jobs)


def _of_topics(wish: Wish, settings: Settings, one: Definition) -> Plan:
    admin = TopicsAdmin(settings.kafka, settings.names)
    partitions = admin.partitions(ACTIVITIES)
    if admin.is_compacted(ACTIVITIES):
        raise OperatorError(
            f"{ACTIVITIES} is compacted: records of it are gone, and a replay would count what is left; set "
            "cleanup.policy=delete, and replay from files",
            ExitCode.TOPICS_WRONG,
        )
    found = find_range(settings.kafka, wish.from_ms, wish.to_ms)
    records = sum(end - found.starts[partition] for partition, end in found.ends.items())
    if wish.partitions in (None, partitions):
        made = replace(one, partitions=partitions, starts=found.starts, ends=found.ends)
    else:
        zeros = dict.fromkeys(range(one.partitions), 0)
        made = replace(one, starts=zeros, ends=zeros, read_starts=found.starts, read_ends=found.ends)
    made = replace(made, items_ends=found.items_ends)
    if not records:
        raise OperatorError(f"{ACTIVITIES} holds nothing in that range; widen --from and --to")
    return Plan(made, records, wish.jobs, tuple(_doubts(found)))


def _doubts(found: Range) -> Iterator[str]:
    if found.lost:
        yield f"{found.lost:,} older records were deleted: state begins with what Kafka still keeps"
    for partition in found.older_behind:
        yield (
            f"partition {partition} ends at offset {found.ends[partition]:,}, the first record that is not "
            "before --to, but records behind it are: clocks disagree. They are left out; without --to all "
            "are in it"
        )


def time_ms(text: str, option: str) -> int:
    """Milliseconds since 1970, or ISO 8601 with a zone. Raises OperatorError."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise OperatorError(
            f"{option} {text}: neither milliseconds since 1970 nor a time with a zone; write for example "
            "2026-01-31T12:00Z"
        )
    return round(at.timestamp() * 1_000)


def _offsets(one: Definition) -> str:
    starts, ends = (one.read_starts, one.read_ends) if one.read_ends else (one.starts, one.ends)
    parts = [f"{p}: {starts[p]:,} to {ends[p]:,}" for p in sorted(ends)]
    return "offsets " + ", ".join(parts)


def iso(at_ms: int) -> str:
    """For people, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1_000))


def _duration(seconds: float) -> str:
    return f"about {max(seconds, 1):.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} min"
