"""Reading the dead letter topic, for people who look at what was set aside (beside flow step 1).

A letter that was requeued is followed, in its own partition, by a *receipt*: a record whose header names the
letter's offset, committed in one transaction with the requeued record. Letters are never changed or deleted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import Message

from streams.concerns import KafkaSettings
from streams.dead_letters import CUT_FROM, PREFIX, TIMESTAMP
from streams.past_records import PastRecords
from wire.names import DEAD_LETTERS

_NUMBER = re.compile(r"-?[0-9]{1,19}")
RECEIPT = "feedrank.receipt"
"""Header of a receipt: the offset of the requeued letter in the receipt's own partition."""


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
    with PastRecords(kafka, topic) as log:
        for record in log.records(since_ms):
            at = record.partition(), record.offset()
            headers = _headers(record)
            receipt = headers.get(RECEIPT)
            if receipt is None:
                letters[at] = _letter(record, at, headers)
            elif (of := (at[0], _number(receipt))) in letters:
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
    return int(text) if text and _NUMBER.fullmatch(text) else -1
