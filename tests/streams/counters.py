"""A job small enough to check by hand: each record's value is a number that is added to its key's sum.

State: sum and count per key; a running hash over the key's values in order, so that order and doubling show.
Run as a process: python -m tests.streams.counters (settings from the environment, COUNTERS_SOURCE the topic).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from streams.batch import RecordBatch
from streams.concerns import CheckpointSettings, KafkaSettings, WorkerSettings
from streams.durable import POSITION_KEY, Cut, Message, Row
from streams.shard import Shard
from streams.shards import Job
from streams.store import ShardStore
from streams.transport import ShardApp, create_app, run_worker
from wire.names import Namespace

BAD = b"bad"


@dataclass
class Counters:
    """`ShardState` with plain dicts. Rows not in memory are read from the store when they are needed."""

    partition: int
    store: ShardStore | None = None
    out: str | None = None
    rows: dict[bytes, tuple[int, int, int]] = field(default_factory=dict)
    dirty: set[bytes] = field(default_factory=set)
    position: int = 0
    number: int = 0
    since: int = 0
    flight: dict[int, dict[bytes, bytes | None]] = field(default_factory=dict)
    gathered: dict[bytes, bytes | None] = field(default_factory=dict)
    flushing: dict[bytes, bytes | None] = field(default_factory=dict)
    committed_position: int = -1

    def add(self, batch: RecordBatch) -> None:
        for key, value in zip(batch.keys, batch.values, strict=True):
            assert key is not None
            assert value is not None
            total, count, order = self.row(b"k" + key)
            self.rows[b"k" + key] = (total + int(value), count + 1, zlib.crc32(value, order))
            self.dirty.add(b"k" + key)
            self.since += 1
        self.position = batch.next_offset

    def row(self, key: bytes) -> tuple[int, int, int]:
        if key not in self.rows:
            stored = self.gathered.get(key) or self.flushing.get(key)
            if stored is None and self.store is not None:
                stored = self.store.get(key)
            self.rows[key] = tuple(orjson.loads(stored)) if stored else (0, 0, 0)
        return self.rows[key]

    def skip_to(self, offset: int) -> None:
        self.position = max(self.position, offset)

    def cut(self, epoch: int) -> Cut:
        self.number += 1
        if not self.dirty and self.position == self.committed_position:
            return Cut(self.number, self.position, ())
        rows: list[Row] = [(key, orjson.dumps(self.rows[key])) for key in sorted(self.dirty)]
        rows.append((POSITION_KEY, orjson.dumps({"position": self.position, "epoch": epoch})))
        messages: Sequence[Message] = ()
        if self.out:
            said = orjson.dumps({"partition": self.partition, "since": self.since, "position": self.position})
            messages = [Message(self.out, self.partition, b"%d" % self.partition, said)]
        self.dirty, self.since, self.committed_position = set(), 0, self.position
        self.flight[self.number] = dict(rows)
        return Cut(self.number, self.position, rows, messages)

    def committed(self, cut: Cut) -> None:
        self.gathered.update(self.flight.pop(cut.number))

    def flush_slice(self, rows_max: int) -> list[Row]:
        if not self.flushing:
            self.flushing, self.gathered = self.gathered, {}
            if POSITION_KEY in self.flushing:
                self.flushing[POSITION_KEY] = self.flushing.pop(POSITION_KEY)
        return list(self.flushing.items())[:rows_max]

    def flushed(self, rows: list[Row]) -> None:
        for key, _ in rows:
            self.flushing.pop(key, None)

    def restore(self, rows: list[Row]) -> None:
        for key, value in rows:
            self.gathered[key] = value
            self.rows.pop(key, None)
            if key == POSITION_KEY and value is not None:
                self.position = self.committed_position = orjson.loads(value)["position"]


async def add(shard: Shard[Counters], batch: RecordBatch) -> None:
    """The step of the job."""
    shard.state.add(batch)


def build() -> ShardApp:
    """The app, as a topology would build it."""
    source = os.environ["COUNTERS_SOURCE"]
    out, sleep_s = os.environ.get("COUNTERS_OUT"), float(os.environ.get("COUNTERS_SLEEP_S", "0"))
    worker = WorkerSettings()

    async def opened(shard: Shard[Counters]) -> None:
        logging.warning("worker is up: %s", shard.names)

    async def step(shard: Shard[Counters], batch: RecordBatch) -> None:
        await asyncio.sleep(sleep_s)
        shard.state.add(batch)

    app = create_app(Namespace(worker.namespace), KafkaSettings(), worker, CheckpointSettings())
    counters = app.shards(
        Job(
            "counters",
            source,
            f"{source}-changelog",
            lambda p, store: Counters(p, store, out),
            step,
            opened=opened,
        )
    )

    @app.agent(counters.source)
    async def count(batches):  # type: ignore[no-untyped-def]
        async for batch in batches:
            counters.deliver(batch)

    return app


if __name__ == "__main__":
    logging.basicConfig(level=os.environ.get("COUNTERS_LOG", "WARNING"), stream=sys.stderr)
    logging.warning("counters start")
    sys.exit(run_worker(build))
