"""A stretch of the topics by time (1, 5): which offsets it is, and reading them as the live job does.

A time is turned into offsets as Kafka does it: the first record whose timestamp is not before it. So a range
is one stretch of offsets in each partition, also where producers' clocks disagree.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError, OffsetOutOfRangeError
from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as At

from streams.batch import RecordBatch
from streams.concerns import KafkaSettings
from streams.connect import connect
from streams.errors import ExitCode, OperatorError
from streams.faust_private.raw import RawFetch, partitions_of, take
from streams.fetch import Unpacker
from streams.recovery import Arrival
from streams.watermarks import watermarks
from wire.names import ACTIVITIES, ITEMS

ANSWER_S = 10.0
POLL_S = 0.2
STALL_S = 60.0
FETCH_BYTES = 8 << 20
CORRUPT_MAX = 5
LAST_RECORDS = 100
_MAGIC_AT, _MAGIC = 16, 2
_HEAD = struct.Struct(">q15xi30xi")
"""Of a record batch: base offset, the last record's offset from there, number of records."""


@dataclass(frozen=True, slots=True)
class Range:
    """Of activities, by partition: first offset, and the one after the last; `lost`: records before the range
    asked for nothing of, that Kafka has deleted. `items_ends`: of items, by partition. `older_behind`:
    partitions in which some of the last records are older than the range's end and yet behind it."""

    starts: dict[int, int]
    ends: dict[int, int]
    items_ends: dict[int, int]
    lost: int = 0
    older_behind: tuple[int, ...] = ()


def find_range(kafka: KafkaSettings, from_ms: int | None, to_ms: int | None) -> Range:
    """The offsets of [from_ms, to_ms); None: from the log's start, or up to its end.

    Raises OperatorError: no answer, no topic, or a beginning that Kafka no longer has.
    """
    with _consumer(kafka) as consumer:
        bounds = _bounds(consumer, ACTIVITIES)
        starts, older = {p: low for p, (low, _) in bounds.items()}, list[int]()
        ends = {p: high for p, (_, high) in bounds.items()}
        if from_ms is not None:
            for partition, (low, high) in bounds.items():
                _demand_kept(consumer, partition, low, high, from_ms)
            starts = _at(consumer, from_ms, ends)
        if to_ms is not None:
            ends = {p: max(end, starts[p]) for p, end in _at(consumer, to_ms, ends).items()}
            older = [p for p, end in ends.items() if _older_behind(consumer, p, end, bounds[p][1], to_ms)]
        items = {p: high for p, (_, high) in _bounds(consumer, ITEMS).items()}
    lost = sum(low for low, _ in bounds.values()) if from_ms is None else 0
    return Range(starts, ends, items, lost, tuple(older))


@contextmanager
def _consumer(kafka: KafkaSettings) -> Iterator[Consumer]:
    consumer = Consumer(
        kafka.confluent()
        | {
            "log_level": 0,
            "group.id": "feedrank-replay",  # never joined: partitions are assigned by hand
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,  # the answer that tells of the end holds nothing
        }
    )
    try:
        yield consumer
    except KafkaException as error:
        raise OperatorError(
            f"Kafka at {kafka.bootstrap_servers} does not answer ({error.args[0].str()}); check "
            "KAFKA_BOOTSTRAP_SERVERS",
            ExitCode.BROKER_UNREACHABLE,
        ) from error
    finally:
        consumer.close()


def _bounds(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    found = consumer.list_topics(topic, timeout=ANSWER_S).topics[topic]
    if found.error is not None:
        raise OperatorError(
            f"{topic}: {found.error.str()}; create it with `feedrank topics create`", ExitCode.TOPICS_WRONG
        )
    return {p: watermarks(consumer, At(topic, p), ANSWER_S) for p in sorted(found.partitions)}


def _at(consumer: Consumer, at_ms: int, ends: dict[int, int]) -> dict[int, int]:
    """First offset at or after a time in each partition; the end where there is none."""
    asked = [At(ACTIVITIES, partition, at_ms) for partition in ends]
    found = consumer.offsets_for_times(asked, timeout=ANSWER_S)
    return {one.partition: one.offset if one.offset >= 0 else ends[one.partition] for one in found}


def _older_behind(consumer: Consumer, partition: int, end: int, high: int, to_ms: int) -> bool:
    """Whether a clock was ahead where the range ends: of the log's last records one is older than `to_ms`."""
    if end >= high:
        return False
    consumer.assign([At(ACTIVITIES, partition, max(end, high - LAST_RECORDS))])
    for _ in range(LAST_RECORDS):
        message = consumer.poll(ANSWER_S)
        if message is None or message.error() is not None:
            return False
        if message.timestamp()[1] < to_ms:
            return True
    return False


def _demand_kept(consumer: Consumer, partition: int, low: int, high: int, from_ms: int) -> None:
    """Raises OperatorError when Kafka has deleted records that the range may have begun with."""
    if low == 0:
        return
    first_ms: int | None = None
    if high > low:
        consumer.assign([At(ACTIVITIES, partition, low)])
        message = consumer.poll(ANSWER_S)
        if message is not None and message.error() is None:
            first_ms = message.timestamp()[1]
    if first_ms is None or first_ms > from_ms:
        kept = "holds nothing any more" if first_ms is None else f"begins at {first_ms} ms"
        raise OperatorError(
            f"--from {from_ms} lies before what Kafka keeps: {ACTIVITIES} partition {partition} {kept}, "
            f"{low} records before were deleted. Begin later, replay from files, or leave --from out to take "
            "all that is kept",
            ExitCode.POSITION_OUTSIDE_LOG,
        )


@dataclass(slots=True)
class KafkaLog:
    """Reads activities and items of one cluster; see RecordLog. `records_max`: of one batch."""

    kafka: KafkaSettings
    items_ends: dict[int, int]
    records_max: int
    _corrupt: int = field(default=0)

    async def activities(self, partition: int, start: int, end: int) -> AsyncIterator[RecordBatch]:
        """See RecordLog. Raises OperatorError when the broker stops answering or has deleted records."""
        async for batch in self._read(TopicPartition(ACTIVITIES, partition), start, end, demand_whole):
            yield batch

    async def items(self) -> AsyncIterator[RecordBatch]:
        """See RecordLog; partition by partition."""
        for partition, end in self.items_ends.items():
            async for batch in self._read(TopicPartition(ITEMS, partition), None, end):
                yield batch

    async def _read(
        self,
        tp: TopicPartition,
        start: int | None,
        end: int,
        look: Callable[[RawFetch], None] = lambda fetch: None,
    ) -> AsyncIterator[RecordBatch]:
        """From `start` (None: the log's start) up to `end`; `look` sees each fetch first."""
        consumer = AIOKafkaConsumer(
            **self.kafka.aiokafka(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=100,
            request_timeout_ms=self.kafka.request_timeout_ms,
        )
        try:
            async with asyncio.timeout(self.kafka.request_timeout_ms / 1_000):
                await connect(consumer)
                await partitions_of(consumer, tp.topic)  # or the next line would wait 0.1 s for metadata
                first = (await consumer.beginning_offsets([tp]))[tp]
            if start is not None and start < first:
                raise _deleted(tp, first - start)
            start = first if start is None else start
            if start < end:
                consumer.assign([tp])
                consumer.seek(tp, start)
                async for batch in self._from(consumer, tp, start, end, look):
                    yield batch
        except OffsetOutOfRangeError as error:
            raise _deleted(tp, None) from error
        except (KafkaError, TimeoutError, OSError) as error:
            raise OperatorError(
                f"Kafka at {self.kafka.bootstrap_servers} stopped answering ({error!r}); check the brokers, "
                "then resume the job: nothing is lost",
                ExitCode.BROKER_UNREACHABLE,
            ) from error
        finally:
            await consumer.stop()

    async def _from(
        self,
        consumer: AIOKafkaConsumer,
        tp: TopicPartition,
        start: int,
        end: int,
        look: Callable[[RawFetch], None],
    ) -> AsyncIterator[RecordBatch]:
        arrival, moved_s, at = Arrival(consumer), time.monotonic(), start
        while at < end:
            fetched = await take(consumer, lambda: {tp}, POLL_S)
            for fetch in fetched:
                if fetch.start != at:
                    continue
                look(fetch)
                try:
                    for batch in Unpacker(fetch).blocks(self.records_max, self.records_max):
                        at, self._corrupt = batch.next_offset, 0
                        yield batch
                except CorruptRecordException:
                    self._corrupt += 1
                    if self._corrupt > CORRUPT_MAX:
                        raise
                    consumer.seek(tp, at)
                moved_s = time.monotonic()
            if not fetched and arrival.reached(tp, end):
                return
            if time.monotonic() - moved_s > STALL_S:
                raise TimeoutError(f"nothing came of {tp.topic} partition {tp.partition} for {STALL_S:.0f} s")


def demand_whole(fetch: RawFetch) -> None:
    """Refuse a stretch of which compaction took records, also where the topic is compacted no more.

    Offsets of a log have no holes within a record batch nor between two: markers and aborted records are
    batches too. Raises OperatorError.
    """
    at = fetch.start
    for raw in fetch.raw:
        if len(raw) < _HEAD.size or raw[_MAGIC_AT] != _MAGIC:
            return  # an older format does not tell
        base, last, count = _HEAD.unpack_from(raw)
        if base > at or last + 1 != count:
            raise OperatorError(
                f"{fetch.topic} partition {fetch.partition} was compacted in part: records between offsets "
                f"{min(at, base)} and {base + last} are gone, and a replay would count what is left. Replay "
                "from files, or from a time after that",
                ExitCode.TOPICS_WRONG,
            )
        at = base + last + 1


def _deleted(tp: TopicPartition, records: int | None) -> OperatorError:
    how_many = "records" if records is None else f"{records} records"
    return OperatorError(
        f"{tp.topic} partition {tp.partition}: Kafka has deleted {how_many} of the range meanwhile; raise "
        "the topic's retention.ms, cancel the job and replay what is kept",
        ExitCode.POSITION_OUTSIDE_LOG,
    )
