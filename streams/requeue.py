"""Sending dead letters back where they came from, each exactly once (beside flow step 1).

The requeued record and the letter's receipt are one transaction, and every requeue has the same transactional
id. Whoever starts fences all others first (an open transaction is aborted), and only then reads which letters
have a receipt. So a second run, a run after a kill, and two people at once send no
letter twice and lose none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from confluent_kafka import KafkaException, Producer

from streams.codec.item_fields import key_id
from streams.codec.schemas import Schemas
from streams.concerns import KafkaSettings
from streams.dead_letter_log import RECEIPT, StoredLetter, read
from streams.errors import ExitCode, OperatorError
from streams.letter_edit import Unreadable, decode_value, edit_value, kind_of
from streams.limits import CLOCK_AHEAD_MS_MAX
from streams.past_records import ANSWER_S
from wire.names import DEAD_LETTERS
from wire.partitioner import partition_of

TRANSACTIONAL_ID = "feedrank.dlq.requeue"
TRANSACTION_LETTERS_MAX = 500
TRANSACTION_S = 30.0
REQUEUED_FROM = "feedrank.requeued-from"
"""Header of a requeued record: PARTITION:OFFSET of its letter in the dead letter topic."""


class NotRequeued(Exception):  # noqa: N818
    """This letter cannot be sent back as it is."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """What became of one letter: `topic`, `partition` where it went, or `problem`."""

    letter: StoredLetter
    topic: str = ""
    partition: int = -1
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Return:
    """One record to send back."""

    letter: StoredLetter
    key: bytes
    value: bytes | None
    partition: int


@dataclass(frozen=True, slots=True)
class Requeue:
    """How to send letters back.

    `changes`: fields to set. `now`: give the record a new timestamp (else it keeps its original one).
    """

    kafka: KafkaSettings
    schemas: Schemas
    changes: Mapping[str, Any]
    now: bool = False
    dead_letters: str = DEAD_LETTERS

    def run(
        self, chosen: Callable[[StoredLetter], bool], since_ms: int | None = None, dry: bool = False
    ) -> list[Requeued]:
        """Send back every chosen letter that has no receipt yet; with `dry`, only say what would be done.

        Raises OperatorError when the broker does not answer or another requeue takes over; then what was not
        committed was not sent, and running again goes on.
        """
        producer = self._producer()
        try:
            if not dry:
                producer.init_transactions(TRANSACTION_S)
            found = read(self.kafka, since_ms, self.dead_letters)
            letters = [letter for letter in found if chosen(letter) and not letter.requeued]
            done: list[Requeued] = []
            for start in range(0, len(letters), TRANSACTION_LETTERS_MAX):
                done += self._transact(producer, letters[start : start + TRANSACTION_LETTERS_MAX], dry)
            return done
        except KafkaException as error:
            raise OperatorError(
                f"requeue stopped: {error.args[0].str()}; what was not committed was not sent: run it again",
                ExitCode.BROKER_UNREACHABLE,
            ) from error

    def _producer(self) -> Producer:
        return Producer(
            {
                **self.kafka.confluent(),
                "log_level": 0,
                "transactional.id": TRANSACTIONAL_ID,
                "transaction.timeout.ms": int(TRANSACTION_S * 1000),
                "compression.type": "lz4",
            }
        )

    def _transact(self, producer: Producer, letters: Sequence[StoredLetter], dry: bool) -> list[Requeued]:
        counts = {topic: _partitions(producer, topic) for topic in {letter.topic for letter in letters}}
        planned = [self._plan(letter, counts[letter.topic]) for letter in letters]
        returns = [one for one in planned if isinstance(one, Return)]
        if returns and not dry:
            self._send(producer, returns)
        return [
            one if isinstance(one, Requeued) else Requeued(one.letter, one.letter.topic, one.partition)
            for one in planned
        ]

    def _send(self, producer: Producer, returns: Iterable[Return]) -> None:
        producer.begin_transaction()
        try:
            for one in returns:
                letter = one.letter
                stamp = {} if self.now or letter.timestamp_ms < 0 else {"timestamp": letter.timestamp_ms}
                producer.produce(
                    letter.topic,
                    one.value,
                    one.key,
                    one.partition,
                    headers={REQUEUED_FROM: letter.name.encode()},
                    **stamp,
                )
                producer.produce(
                    self.dead_letters,
                    orjson.dumps({"requeued": letter.name, "to": letter.topic, "partition": one.partition}),
                    letter.key,
                    letter.at[0],
                    headers={RECEIPT: str(letter.at[1]).encode()},
                )
            producer.commit_transaction(TRANSACTION_S)
        except KafkaException as error:
            if error.args[0].txn_requires_abort():
                producer.abort_transaction(TRANSACTION_S)
            raise

    def _plan(self, letter: StoredLetter, partitions: int) -> Return | Requeued:
        try:
            if partitions == 0:
                raise NotRequeued(f"its topic {letter.topic!r} is not there; create it first")
            if letter.cut_from is not None:
                where = f"{letter.topic} partition {letter.partition} offset {letter.offset}"
                raise NotRequeued(
                    f"its value was cut from {letter.cut_from} bytes; the original is in {where}"
                )
            if not self.now and letter.timestamp_ms > time.time() * 1_000 + CLOCK_AHEAD_MS_MAX:
                raise NotRequeued("its record timestamp is in the future; give it a new one with --now")
            value = self._value(letter)
            key = self._key(letter, value)
            return Return(letter, key, value, partition_of(key, partitions))
        except (NotRequeued, Unreadable) as error:
            return Requeued(letter, problem=str(error))

    def _value(self, letter: StoredLetter) -> bytes | None:
        if not self.changes:
            return letter.value
        return edit_value(letter.value, kind_of(letter.topic), self.schemas, self.changes)

    def _key(self, letter: StoredLetter, value: bytes | None) -> bytes:
        """Whom the value names; where that cannot be read, the key as it was."""
        kind = kind_of(letter.topic)
        field = "item_id" if kind == "item" else "actor"
        try:
            named = decode_value(value, kind, self.schemas).get(field)
        except Unreadable:
            named = None
        if isinstance(named, str) and named and not self._same(letter, named):
            return named.encode()
        if letter.key is None:
            raise NotRequeued(f"it has no key, and its value names no {field}; use --set {field}=...")
        return letter.key

    @staticmethod
    def _same(letter: StoredLetter, named: str) -> bool:
        """An item's key may be wrapped in JSON, as Debezium writes it."""
        return letter.key is not None and kind_of(letter.topic) == "item" and key_id(letter.key) == named


def _partitions(producer: Producer, topic: str) -> int:
    """How many partitions the topic has; 0 where it does not exist."""
    if not topic:
        return 0
    found = producer.list_topics(timeout=ANSWER_S).topics.get(topic)
    return 0 if found is None or found.error is not None else len(found.partitions)
