"""Shards without Faust: a feeder that reads a topic for them as the worker's consumer does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.batch import RecordBatch
from streams.concerns import CheckpointSettings, KafkaSettings
from streams.faust_private.raw import take
from streams.fetch import Unpacker
from streams.observe import Observer, Outcome
from streams.shard import Reader, Shard
from streams.shards import Job, Shards, Site
from tests.streams.counters import Counters, add
from tests.waiting import GUARD_S, until_async
from wire.names import Namespace

NEVER_MS = 60_000


def kafka_at(bootstrap: str) -> KafkaSettings:
    return KafkaSettings(KAFKA_BOOTSTRAP_SERVERS=bootstrap, REQUEST_TIMEOUT_MS=10_000)


def checkpoints(interval_ms: int = NEVER_MS, flush_ms: int = NEVER_MS) -> CheckpointSettings:
    return CheckpointSettings(
        CHECKPOINT_MS=interval_ms, ROCKS_FLUSH_MS=flush_ms, TRANSACTION_TIMEOUT_MS=5_000
    )


class Watcher(Observer):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.recoveries: list[int] = []
        self.losses: list[str] = []
        self.flushes: list[int] = []
        self.copies = 0

    def stood_by(self, topic: str, copies: int, rows: int) -> None:
        self.copies = copies

    def checkpointed(
        self, topic: str, partition: int, rows: int, size_bytes: int, seconds: float, outcome: Outcome
    ) -> None:
        self.outcomes.append(outcome)

    def recovered(self, topic: str, partition: int, rows: int, seconds: float) -> None:
        self.recoveries.append(rows)

    def lost(self, topic: str, partition: int, why: str) -> None:
        self.losses.append(why)

    def flushed(self, topic: str, partition: int, rows: int, seconds: float) -> None:
        self.flushes.append(rows)


class Feeder(Reader):
    """Feeds the shards of one process from a group-less consumer."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.seeks: list[tuple[str, int, int]] = []
        self.done: dict[int, int] = {}
        self.member = True
        self.consumer: AIOKafkaConsumer | None = None
        self._generations: dict[int, int] = {}
        self._task: asyncio.Task[None] | None = None

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self.seeks.append((topic, partition, offset))
        self._generations[partition] = self._generations.get(partition, 0) + 1
        if self.consumer is not None:
            self.consumer.seek(TopicPartition(topic, partition), offset)

    def generation(self, topic: str, partition: int) -> int:
        return self._generations.get(partition, 0)

    def mark_done(self, topic: str, partition: int, position: int) -> None:
        self.done[partition] = position

    async def is_member(self, topic: str, partition: int, position: int) -> bool:
        return self.member

    async def start(self, shards: Shards[Counters]) -> None:
        """Read all partitions that are open from where they stand."""
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            isolation_level="read_committed",
            fetch_max_wait_ms=20,
            auto_offset_reset="earliest",
        )
        await self.consumer.start()
        tps = {p: TopicPartition(shards.job.source, p) for p in shards.open}
        self.consumer.assign(list(tps.values()))
        for partition, shard in shards.open.items():
            self.consumer.seek(tps[partition], shard.next_offset)
        self._task = asyncio.create_task(self._run(shards))

    async def _run(self, shards: Shards[Counters]) -> None:
        from dataclasses import replace

        assert self.consumer is not None
        while True:
            for fetch in await take(self.consumer, lambda: None, 0.1):
                if shard := shards.open.get(fetch.partition):
                    number = self._generations.get(fetch.partition, 0)
                    shard.deliver(replace(fetch, generation=number))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self.consumer is not None:
            await self.consumer.stop()


class Worker:
    """Shards of the counters job with a feeder; `async with` recovers and stops it."""

    def __init__(
        self,
        bootstrap: str,
        source: str,
        directory: Path,
        *,
        namespace: str = "test",
        partitions: int = 1,
        settings: CheckpointSettings | None = None,
        apply: Callable[[Shard[Counters], RecordBatch], Awaitable[None]] = add,
        out: str | None = None,
        standby: bool = False,
    ) -> None:
        self.watcher, self.failures = Watcher(), list[BaseException]()
        self.feeder = Feeder(bootstrap)
        self.opened: list[int] = []
        self.partitions = partitions

        async def opened(shard: Shard[Counters]) -> None:
            self.opened.append(shard.partition)

        job = Job(
            "counters",
            source,
            f"{source}-changelog",
            lambda p, store: Counters(p, store, out),
            apply,
            opened=opened,
        )
        site = Site(
            Namespace(namespace),
            kafka_at(bootstrap),
            settings or checkpoints(),
            directory,
            records_max=100,
            stop_s=5.0,
            observer=self.watcher,
            standby=standby,
        )
        self.shards: Shards[Counters] = Shards(job, site, self.feeder, self.failures.append)

    async def __aenter__(self) -> Worker:
        await self.shards.recover(range(self.partitions))
        await self.feeder.start(self.shards)
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.feeder.stop()
        await self.shards.stop()

    async def abandon(self) -> None:
        """As a kill -9 would, but for the process: nothing is committed, flushed or said."""
        await self.feeder.stop()
        for shard in list(self.shards.open.values()):
            await shard.close()
        self.shards.open.clear()

    async def applied(self, position: int, partition: int = 0) -> Counters:
        """The partition's state once it stands at `position`."""
        await until(lambda: partition in self.shards.open)
        await until(lambda: self.shards.open[partition].next_offset >= position)
        return self.shards.open[partition].state


async def until(true: Callable[[], bool]) -> None:
    """Wait for what the test expects to come true."""
    await until_async(true, "what the test expects")


async def produce(
    bootstrap: str, topic: str, records: list[tuple[bytes, bytes]], partition: int = 0, transaction: str = ""
) -> int:
    """Send the records to one partition; returns the offset after the last. In one transaction if named."""
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, transactional_id=transaction or None, acks="all"
    ) as producer:
        if transaction:
            await producer.begin_transaction()
        sent = [await producer.send(topic, value, key, partition=partition) for key, value in records]
        last = (await sent[-1]).offset
        if transaction:
            await producer.commit_transaction()
    return int(last) + 1


async def read_all(bootstrap: str, topic: str, partition: int = 0) -> list[tuple[bytes | None, bytes | None]]:
    """All committed records of a partition."""
    tp = TopicPartition(topic, partition)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
    async with consumer:
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, 0)
        found: list[tuple[bytes | None, bytes | None]] = []
        while await consumer.position(tp) < end:
            for fetch in await take(consumer, lambda: None, 0.2):
                for batch in Unpacker(fetch).batches(1_000):
                    found += zip(batch.keys, batch.values, strict=True)
        return found


async def committed(
    bootstrap: str, topic: str, enough: Callable[[dict[bytes | None, bytes | None]], bool]
) -> dict[bytes | None, bytes | None]:
    """The last value of each key, once there is enough: a commit may show a few ms after its answer."""
    async with asyncio.timeout(GUARD_S):
        while True:
            found = dict(await read_all(bootstrap, topic))
            if enough(found):
                return found


def numbers(count: int, keys: int = 7) -> list[tuple[bytes, bytes]]:
    """Records 0..count-1 over `keys` keys."""
    return [(b"%d" % ((n * n + n // 3) % keys), b"%d" % n) for n in range(count)]


def expected(records: list[tuple[bytes, bytes]]) -> dict[bytes, tuple[int, int, int]]:
    """What the counters of these records are, one by one."""
    import zlib

    rows: dict[bytes, tuple[int, int, int]] = {}
    for key, value in records:
        total, count, order = rows.get(b"k" + key, (0, 0, 0))
        rows[b"k" + key] = (total + int(value), count + 1, zlib.crc32(value, order))
    return rows


def rows_of(state: Counters) -> dict[bytes, tuple[int, int, int]]:
    """All rows, read as the job reads them."""
    found = {b"k%d" % n: state.row(b"k%d" % n) for n in range(7)}
    return {key: row for key, row in found.items() if row[1]}
