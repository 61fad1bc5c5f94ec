"""Reading a topic from its beginning (or a time) to its end, for commands that look at what is there."""

from __future__ import annotations

import time
from collections.abc import Iterator

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.concerns import KafkaSettings
from streams.errors import ExitCode, OperatorError
from streams.watermarks import watermarks

ANSWER_S = 10.0
SILENCE_S_MAX = 30.0
POLL_S = 0.1
BATCH_RECORDS_MAX = 1_000
TIME_MS_MAX = (1 << 63) - 1
"""A negative time is a question of another kind to a broker, and a larger one has no form."""


class PastRecords:
    """The committed records of a topic up to its end at this moment; a `with` block. Joins no group."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._topic = topic
        self._servers = kafka.bootstrap_servers
        self._finds_times = not kafka.embedded
        self._consumer = Consumer(
            {
                **kafka.confluent(),
                "fetch.wait.max.ms": 50,
                "log_level": 0,
                "group.id": "feedrank.onlooker",  # never committed to
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )

    def __enter__(self) -> PastRecords:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def records(self, since_ms: int | None = None) -> Iterator[Message]:
        """Records from `since_ms` on (before 1970: all), partitions mixed, each in offset order; all of them
        where the broker cannot find a time (embedded).

        Raises OperatorError when the broker does not answer or the topic is missing.
        """
        try:
            yield from self._until_ends({one.partition for one in self._assign(since_ms)})
        except KafkaException as error:
            raise self._silent(error.args[0].str()) from error

    def of_partition(self, partition: int, start: int) -> Iterator[Message]:
        """One partition's records from offset `start` on. Raises OperatorError when the log begins later."""
        asked = TopicPartition(self._topic, partition, start)
        try:
            first, end = watermarks(self._consumer, asked, ANSWER_S)
            if start < first:
                raise OperatorError(
                    f"{self._topic} partition {partition} begins at {first}: {first - start} records from "
                    f"{start} on have left it, and what they said is lost here",
                    ExitCode.POSITION_OUTSIDE_LOG,
                )
            if start < end:
                self._consumer.assign([asked])
                yield from self._until_ends({partition})
        except KafkaException as error:
            raise self._silent(error.args[0].str()) from error

    def _until_ends(self, waiting: set[int]) -> Iterator[Message]:
        last = time.monotonic()
        while waiting:
            if time.monotonic() - last > SILENCE_S_MAX:
                raise self._silent(f"nothing came for {SILENCE_S_MAX:.0f} s")
            for record in self._consumer.consume(BATCH_RECORDS_MAX, timeout=POLL_S):
                last = time.monotonic()
                error = record.error()
                if error is None:
                    yield record
                elif error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(record.partition() or 0)
                else:
                    raise KafkaException(error)

    def _assign(self, since_ms: int | None) -> list[TopicPartition]:
        found = self._consumer.list_topics(self._topic, timeout=ANSWER_S).topics[self._topic]
        if found.error is not None or not found.partitions:
            raise OperatorError(
                f"{self._topic} is missing on {self._servers}; `feedrank topics create` makes it",
                ExitCode.TOPICS_WRONG,
            )
        if not self._finds_times:
            since_ms = None
        since_ms = None if since_ms is None else min(max(since_ms, 0), TIME_MS_MAX)
        starts = [TopicPartition(self._topic, p, since_ms or 0) for p in found.partitions]
        if since_ms is not None:
            starts = self._consumer.offsets_for_times(starts, timeout=ANSWER_S)
            starts = [one for one in starts if one.offset != OFFSET_END]
        self._consumer.assign(starts)
        return starts

    def _silent(self, why: str) -> OperatorError:
        return OperatorError(
            f"{self._topic} on {self._servers} cannot be read: {why}; check KAFKA_BOOTSTRAP_SERVERS",
            ExitCode.BROKER_UNREACHABLE,
        )


def values_from(kafka: KafkaSettings, topic: str, partition: int, start: int) -> Iterator[bytes]:
    """Values of one partition's committed records from an offset up to its end at this moment.

    Raises OperatorError when the log begins later, or as `PastRecords.records`.
    """
    with PastRecords(kafka, topic) as log:
        for record in log.of_partition(partition, start):
            value = record.value()
            if value is not None:
                yield value.encode() if isinstance(value, str) else value
