"""Rows as changelogs hold them, for who looks at a namespace without being its worker (2, 4).

    with ChangelogRows(settings.kafka, names.users_changelog) as changelog:
        rows = changelog.newest(3, lambda key: key == b"uann")

Only committed records count, and of each key the newest: what a worker would recover to. A checkpoint counts
with its last record, the position, so that rows and position are of one moment also beside a running worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.concerns import KafkaSettings
from streams.durable import POSITION_KEY
from streams.errors import ExitCode, OperatorError
from streams.watermarks import watermarks

ANSWER_S = 10.0
SILENCE_S_MAX = 60.0
CONSUME_RECORDS = 5_000
POLL_S = 0.2

Told = Callable[[int, int], None]
"""(offsets read so far, offsets in all)"""


class ChangelogRows:
    """One changelog; a `with` block. Joins no group.

    Raises OperatorError when the topic is missing or the broker does not answer.
    """

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._topic, self._servers = topic, kafka.bootstrap_servers
        self._consumer = Consumer(
            {
                **kafka.confluent(),
                "log_level": 0,
                "group.id": "feedrank.onlooker",  # never committed to
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 20,  # the answer that tells of the end holds nothing
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )
        try:
            found = self._consumer.list_topics(topic, timeout=ANSWER_S).topics[topic]
        except KafkaException as error:
            self._consumer.close()
            raise self._silent(error.args[0].str()) from error
        if found.error is not None or not found.partitions:
            self._consumer.close()
            raise OperatorError(
                f"{topic} is missing on {self._servers}: is the namespace right? `feedrank topics check` "
                "lists what there is",
                ExitCode.TOPICS_WRONG,
            )
        self.partitions = len(found.partitions)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def newest(
        self, partition: int, wanted: Callable[[bytes], bool], told: Told = lambda done, total: None
    ) -> dict[bytes, bytes]:
        """The newest committed value of every wanted key of a partition, up to its last whole checkpoint as
        of now; the position record always comes with them.

        Reads the whole partition; memory for what is wanted.
        """
        found: dict[bytes, bytes] = {}
        held: dict[bytes, bytes | None] = {}
        try:
            asked = TopicPartition(self._topic, partition)
            start, end = watermarks(self._consumer, asked, ANSWER_S)
            self._consumer.assign([TopicPartition(self._topic, partition, start)])
            last_s = time.monotonic()
            while start < end:
                messages = self._consumer.consume(CONSUME_RECORDS, POLL_S)
                if not messages and time.monotonic() - last_s > SILENCE_S_MAX:
                    raise self._silent(f"nothing came for {SILENCE_S_MAX:.0f} s")
                for message in messages:
                    last_s = time.monotonic()
                    error = message.error()
                    if error is not None:
                        if error.code() == KafkaError._PARTITION_EOF:
                            return found
                        raise KafkaException(error)
                    if (message.offset() or 0) >= end:
                        return found
                    key, value, done = _bytes(message.key()), message.value(), message.offset() or 0
                    if key == POSITION_KEY or wanted(key):
                        held[key] = None if value is None else _bytes(value)
                    if key == POSITION_KEY:
                        _take(found, held)
                if messages:
                    told(done - start, end - start)
        except KafkaException as error:
            raise self._silent(error.args[0].str()) from error
        return found

    def _silent(self, why: str) -> OperatorError:
        return OperatorError(
            f"{self._topic} on {self._servers} cannot be read: {why}; check KAFKA_BOOTSTRAP_SERVERS",
            ExitCode.BROKER_UNREACHABLE,
        )


def _take(found: dict[bytes, bytes], held: dict[bytes, bytes | None]) -> None:
    """A checkpoint is whole."""
    for key, value in held.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = value
    held.clear()


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
