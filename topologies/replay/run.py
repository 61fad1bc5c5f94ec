"""A replay from its first phase to its last (1 to 11); what was done before is found done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from streams.batch import RecordBatch
from streams.settings import Settings
from topologies.replay.feeds import count_active
from topologies.replay.kafka_log import KafkaLog
from topologies.replay.pool import FETCH_RECORDS, Phase, Runner, open_steps, runner
from topologies.replay.records import until
from topologies.replay.shadow import END_OF_DATA, Definition, Shadow
from topologies.replay.shard import Spent
from topologies.replay.spool import Record, Spool
from topologies.ticks import tick_of

PHASES: tuple[Phase, ...] = ("users", "items", "features", "feeds")
SAYING = {
    "read": "reading",
    "users": "user rows",
    "items": "item rows",
    "features": "item statistics",
    "feeds": "feeds",
}
"""What each phase makes, for people."""
READ_RECORDS = 1_000
"""Of files: after so many a pause is heard, also on a machine that is busy."""
ReadFiles = Callable[[Definition], Iterable[Record]]


class Watcher(Protocol):
    """Hears how far a replay is, and says when to stop."""

    def phase(self, name: str, total: int | None) -> None:
        """A phase begins; `total` of the units that `moved` counts, None: not known."""

    def moved(self, count: int) -> bool:
        """So many more are done; False: make it durable and stop."""
        ...


@dataclass(slots=True)
class Replay:
    """The replay in a shadow's directory. `read` gives the records of its files."""

    shadow: Shadow
    settings: Settings
    jobs: int
    watcher: Watcher
    read: ReadFiles
    spent: dict[Phase, Spent] = field(default_factory=dict)
    """By phase, of what this run did."""

    def run(self) -> bool:
        """To the end; False when the watcher stopped it. Raises OperatorError."""
        runner_ = runner(self.shadow.directory, self.settings, self.jobs)
        try:
            return self._spooled() and all(self._phase(runner_, phase) for phase in self._phases())
        finally:
            self.spent = runner_.spent
            runner_.close()

    # -- what is read ----------------------------------------------------------------------------------

    def _spooled(self) -> bool:
        """Records of files, or the items of the topics, are on disk; begun anew unless they were whole."""
        one, spool = self.shadow.definition(), Spool(self.shadow.spool)
        try:
            if not spool.whole:
                self.watcher.phase("read", one.lines or None)
                self._spool(one, spool)
        except _Stopped:
            return False
        if one.spooled:
            self.shadow.amend(replace(one, ends=spool.ends()))
        return True

    def _spool(self, one: Definition, spool: Spool) -> None:
        if one.source == "files":
            spool.make(self._watched(self.read(one)), one.partitions)
            return
        log = KafkaLog(self.settings.kafka, one.items_ends, FETCH_RECORDS)
        items = self._watched_batches(log.items())
        if one.spooled:
            activities = self._watched_batches(_of_range(log, one))
            asyncio.run(spool.keep(items, activities, one.partitions, len(one.read_ends)))
        else:
            asyncio.run(spool.keep_items(items))

    def _watched(self, records: Iterable[Record]) -> Iterator[Record]:
        number = 0
        for number, record in enumerate(records, 1):
            yield record
            if number % READ_RECORDS == 0 and not self.watcher.moved(READ_RECORDS):
                raise _Stopped
        self.watcher.moved(number % READ_RECORDS)

    async def _watched_batches(self, batches: AsyncIterator[RecordBatch]) -> AsyncIterator[RecordBatch]:
        async for batch in batches:
            yield batch
            if not self.watcher.moved(len(batch)):
                raise _Stopped

    # -- phases ----------------------------------------------------------------------------------------

    def _phases(self) -> tuple[Phase, ...]:
        return PHASES if self.shadow.definition().sink != "none" else PHASES[:-1]

    def _phase(self, runner_: Runner, phase: Phase) -> bool:
        as_of_ms = 0 if phase in ("users", "items") else self.as_of_ms()
        self.watcher.phase(phase, self._total(phase, as_of_ms))
        return runner_.run(phase, range(self.shadow.definition().partitions), as_of_ms, self.watcher.moved)

    def as_of_ms(self) -> int:
        """When feeds are settled; found once, then kept. Call when all users are done."""
        one = self.shadow.definition()
        if one.as_of_ms == END_OF_DATA:
            stream_ms = open_steps(self.shadow.directory, self.settings).stream_ms()
            one = replace(one, as_of_ms=tick_of(stream_ms + 1, one.tick_ms) * one.tick_ms)
            self.shadow.amend(one)
        return one.as_of_ms

    def _total(self, phase: Phase, as_of_ms: int) -> int:
        one = self.shadow.definition()
        partitions = range(one.partitions)
        if phase == "users":
            return one.records
        if phase == "items":
            return sum(_size(self.shadow.deltas(p)) for p in partitions)
        if phase == "features":
            return one.partitions
        steps = open_steps(self.shadow.directory, self.settings)
        return sum(count_active(steps, p, as_of_ms) for p in partitions)


async def _of_range(log: KafkaLog, one: Definition) -> AsyncIterator[RecordBatch]:
    """Activities of the topic, partition by partition: all of one user lie in one, in their order."""
    for partition, end in one.read_ends.items():
        async for batch in log.activities(partition, one.read_starts[partition], end):
            yield until(batch, end)


class _Stopped(Exception):  # noqa: N818
    """The watcher said so while the spool was not whole."""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
