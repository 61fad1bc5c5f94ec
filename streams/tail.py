"""Reading whole compacted topics in every worker (step 5): from the start, on and on, without a group."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from streams.batch import RecordBatch
from streams.concerns import KafkaSettings
from streams.connect import connect
from streams.faust_private.raw import RawFetch, answered_at, partitions_of, position_of, take
from streams.fetch import Unpacker
from streams.log import logger
from streams.recovery import Arrival

POLL_S = 0.1
FETCH_WAIT_MS = 20
"""Short: whoever asks where the topics end waits behind it, as a broker answers a connection in order."""
RECORDS_PER_BATCH_MAX = 1_000
BACKOFF_S_MIN = 0.1
BACKOFF_S_MAX = 5.0

log = logger(__name__)

OnBatch = Callable[[RecordBatch], Awaitable[None] | None]


class TailReader:
    """Gives all records of `topics` to `on_batch`, in offset order per partition, each once per lifetime.

    At most `records_max` at a time, `in_blocks` where a decoder reads these whole: who asks one for keys and
    values waits until those of all its records are made. `committed`: without what is aborted or open.
    Broker errors are met with backoff and a log line; then it goes on where it was. An error of `on_batch`
    goes to `failed` and ends the reader.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: Sequence[str],
        on_batch: OnBatch,
        failed: Callable[[BaseException], None],
        *,
        committed: bool = True,
        records_max: int = RECORDS_PER_BATCH_MAX,
        in_blocks: bool = False,
    ) -> None:
        self._kafka, self._topics, self._on_batch, self._failed = kafka, topics, on_batch, failed
        self._records_max, self._in_blocks = records_max, in_blocks
        self._isolation = "read_committed" if committed else "read_uncommitted"
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._arrival: Arrival | None = None
        self._moved = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._rounds = 0
        self._answered_ms: int | None = None
        self.records = 0
        self.connected = False

    @property
    def lag(self) -> int:
        """Records between the positions and the ends, as last heard."""
        return sum(max(end - self._positions.get(tp, 0), 0) for tp, end in self._ends.items())

    @property
    def progress(self) -> tuple[int, int]:
        """Records read so far, and about how many there will be."""
        return self.records, self.records + self.lag

    def answered_ms(self) -> int | None:
        """Wall clock (ms) of the last answer of a broker, empty ones too; None before the first."""
        consumer = self._consumer
        if consumer is not None:
            answers = [at for tp in self._positions if (at := answered_at(consumer, tp)) is not None]
            self._answered_ms = max(answers, default=self._answered_ms)
        return self._answered_ms

    def start(self) -> None:
        """Begin to read, in a task."""
        self._task = asyncio.create_task(self._run(), name=f"tail {', '.join(self._topics)}")

    async def stop(self) -> None:
        """End reading; harmless when not started."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def caught_up(self, timeout_s: float | None = None) -> None:
        """Until everything is read that the topics hold at the time of the call.

        Raises TimeoutError, which names what is missing.
        """
        try:
            async with asyncio.timeout(timeout_s):
                ends = await self._ask_ends()
                async with self._moved:
                    round_ = self._rounds
                    await self._moved.wait_for(lambda: self._rounds > round_ and self._reached(ends))
        except TimeoutError as error:
            raise TimeoutError(
                f"{', '.join(self._topics)}: {self.lag} records still to read after {timeout_s} s"
                + ("" if self.connected else "; Kafka does not answer: check the brokers")
            ) from error

    def _reached(self, ends: dict[TopicPartition, int]) -> bool:
        """Whether all before these ends is given away. Where the consumer stands says so of holes only: what
        it has handed out may still wait for its turn in `_read`."""
        consumer, arrival = self._consumer, self._arrival
        return (consumer is not None and arrival is not None) and all(
            self._positions[tp] >= end or (position_of(consumer, tp) < end and arrival.reached(tp, end))
            for tp, end in ends.items()
        )

    async def ends_of(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Where these partitions, of any topics, end; nothing while no broker is there.

        Raises KafkaError.
        """
        consumer = self._consumer
        return {} if consumer is None else await consumer.end_offsets(list(tps))

    async def _ask_ends(self) -> dict[TopicPartition, int]:
        while True:
            async with self._moved:
                await self._moved.wait_for(lambda: self._consumer is not None)
            consumer = self._consumer
            assert consumer is not None
            try:
                found: dict[TopicPartition, int] = await consumer.end_offsets(list(self._positions))
            except KafkaError:
                await asyncio.sleep(BACKOFF_S_MIN)
            else:
                return found

    # -- the task ------------------------------------------------------------------------------------

    async def _run(self) -> None:
        backoff_s = BACKOFF_S_MIN
        while True:
            records = self.records
            try:
                await self._session()
            except (KafkaError, OSError, TimeoutError) as error:
                backoff_s = BACKOFF_S_MIN if self.records > records else min(2 * backoff_s, BACKOFF_S_MAX)
                missing = isinstance(error, UnknownTopicOrPartitionError)
                log.warning(
                    "a topic is missing; `feedrank topics create` makes it"
                    if missing
                    else "reading on after a pause",
                    topics=", ".join(self._topics),
                    cause=repr(error),
                    seconds=backoff_s,
                )
            except Exception as error:
                self._failed(error)
                return
            await asyncio.sleep(backoff_s)

    async def _session(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._kafka.aiokafka(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level=self._isolation,
            max_partition_fetch_bytes=self._kafka.fetch_bytes_max,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            request_timeout_ms=self._kafka.request_timeout_ms,
        )
        try:
            async with asyncio.timeout(self._kafka.request_timeout_ms / 1_000):
                await connect(consumer)
                await self._assign(consumer)
            self._consumer, self._arrival, self.connected = consumer, Arrival(consumer), True
            while True:
                for fetch in await take(consumer, lambda: None, POLL_S):
                    await self._read(fetch)
                for tp in self._positions:  # all that was handed out is given away: markers were passed, too
                    self._positions[tp] = max(self._positions[tp], position_of(consumer, tp))
                async with self._moved:
                    self._rounds += 1
                    self._moved.notify_all()
        finally:
            self._consumer = self._arrival = None
            self.connected = False
            await consumer.stop()

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        tps: list[TopicPartition] = []
        for topic in self._topics:
            found = await partitions_of(consumer, topic)
            tps += [TopicPartition(topic, partition) for partition in sorted(found)]
        starts = await consumer.beginning_offsets(tps)
        self._ends = await consumer.end_offsets(tps)
        for tp in tps:
            at = self._positions.get(tp, starts[tp])
            if at < starts[tp]:
                log.warning("records were deleted unread", topic=tp.topic, records=starts[tp] - at)
            self._positions[tp] = max(at, starts[tp])
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, self._positions[tp])

    async def _read(self, fetch: RawFetch) -> None:
        tp = TopicPartition(fetch.topic, fetch.partition)
        unpacker, most = Unpacker(fetch), self._records_max
        for batch in unpacker.blocks(most, most) if self._in_blocks else unpacker.batches(most):
            if len(batch):
                done = self._on_batch(batch)
                if inspect.isawaitable(done):
                    await done
            self._positions[tp] = batch.next_offset
            self._ends[tp] = max(fetch.highwater, batch.next_offset)
            self.records += len(batch)
            await asyncio.sleep(0)
