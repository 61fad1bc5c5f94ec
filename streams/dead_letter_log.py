"""Reading the dead letter topic, for people who look at what was set aside (beside flow step 1).

A letter that was requeued is followed, in its own partition, by a *receipt*: a record whose header names the
letter's offset, committed in one transaction with the requeued record. Letters are never changed or deleted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.concerns import KafkaSettings
from streams.dead_letters import CUT_FROM, PREFIX, TIMESTAMP
from streams.errors import ExitCode, OperatorError
from wire.names import DEAD_LETTERS

RECEIPT = "feedrank.receipt"
"""Header of a receipt: the offset of the requeued letter in the receipt's own partition."""
ANSWER_S = 10.0
SILENCE_S_MAX = 30.0
POLL_S = 0.1
BATCH_RECORDS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter as it lies in the topic: `at` there, origin, reason, original bytes.

    `timestamp_ms` is the original record's; `dead_ms` when it was set aside. `reason` may be a foreign class
    name where Kafka Connect wrote the letter. `cut_from` is the original size of a value that was cut.
    """

    at: tuple[int, int]
    dead_ms: int
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    reason: str
    message: str
    group: str
    key: bytes | None
    value: bytes | None
    cut_from: int | None = None
    requeued: bool = False

    @property
    def name(self) -> str:
        """PARTITION:OFFSET in the dead letter topic: how commands name it."""
        return f"{self.at[0]}:{self.at[1]}"


def read(kafka: KafkaSettings, since_ms: int | None = None, topic: str = DEAD_LETTERS) -> list[StoredLetter]:
    """All letters from `since_ms` (when they were set aside) to the topic's end, oldest first.

    Raises OperatorError when the broker does not answer or the topic is missing.
    """
    letters: dict[tuple[int, int], StoredLetter] = {}
    with _Log(kafka, topic) as log:
        for record in log.records(since_ms):
            at = record.partition(), record.offset()
            headers = _headers(record)
            receipt = headers.get(RECEIPT)
            if receipt is None:
                letters[at] = _letter(record, at, headers)
            elif (of := (at[0], int(receipt))) in letters:
                letters[of] = replace(letters[of], requeued=True)
    return sorted(letters.values(), key=lambda letter: (letter.dead_ms, letter.at))


def _headers(record: Message) -> dict[str, str]:
    found: Any = record.headers() or ()
    return {name: (value or b"").decode("utf-8", "replace") for name, value in found}


def _letter(record: Message, at: tuple[int, int], headers: Mapping[str, str]) -> StoredLetter:
    """Lenient: whatever somebody wrote into the topic can be listed."""
    cut_from = headers.get(CUT_FROM)
    return StoredLetter(
        at=at,
        dead_ms=record.timestamp()[1],
        topic=headers.get(f"{PREFIX}topic", ""),
        partition=_number(headers.get(f"{PREFIX}partition")),
        offset=_number(headers.get(f"{PREFIX}offset")),
        timestamp_ms=_number(headers.get(TIMESTAMP)),
        reason=headers.get(f"{PREFIX}exception.class.name", ""),
        message=headers.get(f"{PREFIX}exception.message", ""),
        group=headers.get(f"{PREFIX}connector.name", ""),
        key=record.key(),
        value=record.value(),
        cut_from=None if cut_from is None else _number(cut_from),
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.lstrip("-").isdigit() else -1


class _Log:
    """The committed records of a topic up to its end at this moment."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._topic = topic
        self._servers = kafka.bootstrap_servers
        self._consumer = Consumer(
            {
                **kafka.confluent(),
                "fetch.wait.max.ms": 50,
                "log_level": 0,
                "group.id": "feedrank.dlq",  # never committed to
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def records(self, since_ms: int | None) -> Iterator[Message]:
        try:
            waiting = {one.partition for one in self._assign(since_ms)}
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
                        waiting.discard(record.partition())
                    else:
                        raise KafkaException(error)
        except KafkaException as error:
            raise self._silent(error.args[0].str()) from error

    def _assign(self, since_ms: int | None) -> list[TopicPartition]:
        found = self._consumer.list_topics(self._topic, timeout=ANSWER_S).topics[self._topic]
        if found.error is not None or not found.partitions:
            raise OperatorError(
                f"{self._topic} is missing on {self._servers}; `feedrank topics create` makes it",
                ExitCode.TOPICS_WRONG,
            )
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
