"""Activities by the million: encoded by hand, happening as they are sent, or packed into batches before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer

from benchmarks.load import varint
from feedrank.load.events import ActivityEvent
from feedrank.load.send import encoder
from tests.oracle.records import Activity
from wire.names import ACTIVITIES
from wire.partitioner import partition_of

Act = tuple[str, str, str]
"""User, verb, object."""
Chunk = list[Any]
"""aiokafka's batches, one per partition."""

CHUNK = 1_000
PACKED = 16_000
"""Activities of a chunk that is packed; each partition's part of it is a batch."""
PACKED_BYTES_MAX = 8 << 20
HEADER = b"\0" * 5
MARK_MS = 1_234_567_890_123
FLUSH_S = 300.0
QUEUE_MAX = 200_000


class Load:
    """Sends acts; remembers those of the `watched` users, in order, for the oracle."""

    def __init__(self, bootstrap: str, watched: Collection[str]) -> None:
        self.watched, self.told = frozenset(watched), list[Activity]()
        self.sent = 0
        self.failed: list[str] = []
        self._bootstrap = bootstrap
        self._encode = encoder("avro")
        self._ends: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        self._producer: Any = Producer(
            {
                "bootstrap.servers": bootstrap,
                "log_level": 0,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 5,
                "batch.size": 256 << 10,
                "queue.buffering.max.messages": 4 * QUEUE_MAX,
                "on_delivery": self._heard,
            }
        )

    def send(self, acts: Iterable[Act], per_s: float = 0.0) -> int:
        """All of them, at a rate or as fast as the broker takes them; how many. The broker has them."""
        began, before, left = time.monotonic(), self.sent, iter(acts)
        while chunk := list(islice(left, CHUNK if not per_s else max(1, min(CHUNK, int(per_s / 20))))):
            now_ms = time.time_ns() // 1_000_000
            for user, verb, thing in chunk:
                self._put(user, verb, thing, now_ms)
            self._producer.poll(0)
            while len(self._producer) > QUEUE_MAX:
                self._producer.poll(0.01)
            if per_s:
                time.sleep(max(0.0, began + (self.sent - before) / per_s - time.monotonic()))
        if unsent := self._producer.flush(FLUSH_S):
            self.failed.append(f"{unsent} records were not taken")
        return self.sent - before

    @contextmanager
    def packed(self, acts: Iterable[Act], partitions: int) -> Iterator[Flood]:
        """These, to be sent faster than they can be encoded; they happened while they were."""
        with asyncio.Runner() as runner:
            producer = runner.run(_connected(self._bootstrap))
            try:
                yield Flood(runner, producer, list(self._chunks(producer, acts, partitions)), self.failed)
            finally:
                runner.run(producer.stop())

    def _chunks(self, producer: Any, acts: Iterable[Act], partitions: int) -> Iterator[Chunk]:
        left = iter(acts)
        while chunk := list(islice(left, PACKED)):
            batches: Chunk = [producer.create_batch() for _ in range(partitions)]
            now_ms = time.time_ns() // 1_000_000
            for user, verb, thing in chunk:
                key, value = user.encode(), self._value(user, verb, thing, now_ms)
                batch = batches[partition_of(key, partitions)]
                assert batch.append(key=key, value=value, timestamp=now_ms) is not None, "it has no room"
            yield batches

    def _put(self, user: str, verb: str, thing: str, now_ms: int) -> None:
        value = self._value(user, verb, thing, now_ms)
        self._producer.produce(ACTIVITIES, value, user.encode(), timestamp=now_ms)

    def _value(self, user: str, verb: str, thing: str, now_ms: int) -> bytes:
        """One more; remembered when its user is watched."""
        name = f"h-{self.sent}"
        head, tail = self._around(verb, thing)
        if user in self.watched:
            self.told.append(Activity(name, user, verb, thing, now_ms))
        self.sent += 1
        return b"".join([HEADER, _text(name), _text(user), head, varint(now_ms), tail])

    def _around(self, verb: str, thing: str) -> tuple[bytes, bytes]:
        """What stands between user and time, and behind the time."""
        found = self._ends.get((verb, thing))
        if found is None:
            value = self._encode(ActivityEvent("n", "u", verb, thing, MARK_MS))
            head, _, tail = value[len(HEADER) + 4 :].partition(varint(MARK_MS))
            found = self._ends[verb, thing] = (head, tail)
        return found

    def _heard(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failed.append(str(error))


class Flood:
    """Batches that wait for their time."""

    def __init__(self, runner: asyncio.Runner, producer: Any, chunks: list[Chunk], failed: list[str]) -> None:
        self._runner, self._producer, self._chunks, self._failed = runner, producer, chunks, failed

    def send(self, per_s: float) -> tuple[int, float]:
        """All of them, at this rate; how many, and how long it took. The broker has them."""
        began = time.monotonic()
        count = self._runner.run(self._send(began, per_s))
        return count, time.monotonic() - began

    async def _send(self, began: float, per_s: float) -> int:
        count, waiting = 0, []
        for chunk in self._chunks:
            for partition, batch in enumerate(chunk):
                if records := batch.record_count():
                    waiting.append(await self._producer.send_batch(batch, ACTIVITIES, partition=partition))
                    count += records
            await asyncio.sleep(max(0.0, began + count / per_s - time.monotonic()))
        done = await asyncio.gather(*waiting, return_exceptions=True)
        self._failed += [str(error) for error in done if isinstance(error, BaseException)]
        return count


async def _connected(bootstrap: str) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        max_batch_size=PACKED_BYTES_MAX,
        max_request_size=PACKED_BYTES_MAX,
    )
    await producer.start()
    return producer


def _text(text: str) -> bytes:
    data = text.encode()
    return varint(len(data)) + data
