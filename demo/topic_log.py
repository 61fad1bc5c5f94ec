"""Looks at Kafka from outside: where topics end, what checkpoints say, what came from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from demo.ledger import Account
from streams.codec import BundledSchemas
from streams.concerns import KafkaSettings
from streams.durable import POSITION_KEY
from streams.errors import ExitCode, OperatorError
from streams.letter_edit import Unreadable, decode_value
from wire.names import ACTIVITIES, Namespace

ANSWER_S = 10.0
POLL_S = 0.5
FETCH_WAIT_MS = 20
STRETCH_RECORDS = 64
"""What is first looked through for a position record: about one checkpoint of a partition."""
CONSUME_RECORDS = 500
TAIL_RECORDS_MAX = 5_000


def _consumer(kafka: KafkaSettings) -> Consumer:
    return Consumer(
        {
            **kafka.confluent(),
            "log_level": 0,
            "group.id": "feedrank-demo-onlooker",  # never joined: partitions are assigned by hand
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": FETCH_WAIT_MS,
        }
    )


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        what = f"the embedded Kafka does not answer: {error.args[0].str()}"
        raise OperatorError(f"{what}; run the demo again", ExitCode.BROKER_UNREACHABLE) from error


@dataclass(slots=True)
class TopicLog:
    """Answers questions about the topics of one namespace, or raises OperatorError: Kafka does not answer."""

    kafka: KafkaSettings
    names: Namespace
    _consumer: Consumer = field(init=False)

    def __post_init__(self) -> None:
        self._consumer = _consumer(self.kafka)

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def ends(self, topic: str = ACTIVITIES) -> dict[int, int]:
        """The end of each partition."""
        with _answered():
            found = self._consumer.list_topics(topic, timeout=ANSWER_S).topics[topic].partitions
            return {p: self._bounds(topic, p)[1] for p in sorted(found)}

    def accounts(self) -> dict[int, Account]:
        """What the newest checkpoint of each partition says; partitions without one are left out."""
        topic, found = self.names.users_changelog, {}
        for partition in self.ends(topic):
            record = self._last_position(topic, partition)
            if record is not None:
                found[partition] = Account.of(record)
        return found

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        answer = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_S)
        return int(answer[0]), int(answer[1])

    def _last_position(self, topic: str, partition: int) -> Mapping[str, Any] | None:
        """Read ever longer stretches before the end until one holds a position record."""
        with _answered():
            low, end = self._bounds(topic, partition)
            stretch = STRETCH_RECORDS
            while end > low:
                start = max(low, end - stretch)
                for message in reversed(self._read(topic, partition, start, end)):
                    if message.key() == POSITION_KEY and message.value():
                        record: dict[str, Any] = orjson.loads(message.value())
                        return record
                if start == low:
                    break
                stretch *= 4
        return None

    def _read(self, topic: str, partition: int, start: int, end: int) -> list[Message]:
        """The records in [start, end); a transaction's markers take up offsets and are no records."""
        self._consumer.assign([TopicPartition(topic, partition, start)])
        found: list[Message] = []
        while True:
            message = self._consumer.poll(ANSWER_S)
            if message is None or message.error():  # the end of the partition
                break
            found.append(message)
            if message.offset() >= end - 1:
                break
        self._consumer.unassign()
        return found


@dataclass(frozen=True, slots=True)
class ForeignAct:
    """An activity that no simulated person sent, and where it lies."""

    partition: int
    offset: int
    fields: Mapping[str, Any]


@dataclass(slots=True)
class ActivityTail:
    """Follows the activities as they come; picks out those that were not sent by the simulated people.

    `mark` is what every id of theirs begins with. `next_offset` by partition is how far it has read.
    """

    kafka: KafkaSettings
    mark: str
    next_offset: dict[int, int] = field(default_factory=dict)
    _consumer: Consumer = field(init=False)

    def __post_init__(self) -> None:
        self._consumer = _consumer(self.kafka)
        with _answered():
            found = self._consumer.list_topics(ACTIVITIES, timeout=ANSWER_S).topics[ACTIVITIES].partitions
        self.next_offset = dict.fromkeys(sorted(found), 0)
        self._consumer.assign([TopicPartition(ACTIVITIES, p, 0) for p in self.next_offset])

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    @property
    def read(self) -> int:
        """Activities read so far."""
        return sum(self.next_offset.values())

    def poll(self) -> list[ForeignAct]:
        """What came since the last call; does not wait."""
        found: list[ForeignAct] = []
        mark = self.mark.encode()
        for _ in range(TAIL_RECORDS_MAX // CONSUME_RECORDS):
            messages = self._consumer.consume(CONSUME_RECORDS, 0.0)
            for message in messages:
                if message.error():
                    continue
                self.next_offset[message.partition()] = message.offset() + 1
                if mark not in (message.value() or b""):
                    found += _decoded(message)
            if not messages:
                break
        return found


def _decoded(message: Message) -> list[ForeignAct]:
    """One act; none for what is not an activity (the simulated people send such things too)."""
    try:
        fields = decode_value(message.value(), "activity", BundledSchemas())
    except Unreadable:
        return []
    return [ForeignAct(message.partition(), message.offset(), fields)]
