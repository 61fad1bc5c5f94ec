"""Dead letters: records that cannot be used, set aside with reason, origin and original bytes (flow step 1).

They become Kafka messages with the headers of Kafka Connect's error reporter, so that what already reads
Connect's dead letter queues reads these. They are committed in the transaction that moves the source's
position past the record: exactly one dead letter for each bad record, whatever is killed when.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from streams.durable import Message
from streams.limits import DEAD_LETTER_BYTES_MAX, MESSAGE_CHARS_MAX
from wire.names import DEAD_LETTERS

PREFIX = "__connect.errors."
REASON_HEADER = f"{PREFIX}exception.class.name"
TIMESTAMP = "feedrank.timestamp"
"""Header: the record timestamp of the original in ms, which Connect's convention has no name for."""
CUT_FROM = "feedrank.cut-from-bytes"
"""Header: the original size, where the value was too large to be kept whole."""


class Reason(StrEnum):
    """Why a record is a dead letter. docs/wire.md explains each; a test compares the two."""

    NULL_VALUE = "null_value"
    OVERSIZED = "oversized"
    BAD_MAGIC = "bad_magic"
    UNKNOWN_SCHEMA = "unknown_schema"
    WRONG_SCHEMA = "wrong_schema"
    TRUNCATED = "truncated"
    TRAILING_BYTES = "trailing_bytes"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    MISSING_FIELD = "missing_field"
    EMPTY_ID = "empty_id"
    LONG_ID = "long_id"
    BAD_ID = "bad_id"
    NULL_KEY = "null_key"
    KEY_MISMATCH = "key_mismatch"
    MISROUTED = "misrouted"
    UNKNOWN_VERB = "unknown_verb"
    ABSURD_TIME = "absurd_time"
    CLOCK_AHEAD = "clock_ahead"
    BAD_DWELL = "bad_dwell"
    BAD_POSITION = "bad_position"
    BAD_TARGET = "bad_target"
    UNDO_INCOMPLETE = "undo_incomplete"
    BAD_EMBEDDING = "bad_embedding"
    BAD_ENVELOPE = "bad_envelope"


_KEY_REASONS = frozenset({Reason.NULL_KEY, Reason.KEY_MISMATCH, Reason.MISROUTED})
_VALUE_REASONS = frozenset(
    {
        Reason.NULL_VALUE,
        Reason.OVERSIZED,
        Reason.BAD_MAGIC,
        Reason.UNKNOWN_SCHEMA,
        Reason.WRONG_SCHEMA,
        Reason.TRUNCATED,
        Reason.TRAILING_BYTES,
        Reason.NOT_UTF8,
        Reason.NOT_JSON,
        Reason.MISSING_FIELD,
        Reason.BAD_ENVELOPE,
    }
)


def stage(reason: Reason) -> str:
    """Connect's name of the stage that refused the record."""
    if reason in _KEY_REASONS:
        return "KEY_CONVERTER"
    return "VALUE_CONVERTER" if reason in _VALUE_REASONS else "TRANSFORMATION"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that was refused: where it came from, its original bytes, why.

    `timestamp_ms` is Kafka's record timestamp. `message` says what is wrong and what to do.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    reason: Reason
    message: str

    def to_message(self, group: str) -> Message:
        """The record for the dead letter topic; `group` (`Namespace.group`) says which job refused it."""
        value = self.value
        headers = (
            *_shared_headers(self.topic, self.partition, group, self.reason),
            (f"{PREFIX}offset", str(self.offset).encode()),
            (f"{PREFIX}exception.message", self.message[:MESSAGE_CHARS_MAX].encode()),
            (TIMESTAMP, str(self.timestamp_ms).encode()),
        )
        if value is not None and len(value) > DEAD_LETTER_BYTES_MAX:
            headers = (*headers, (CUT_FROM, str(len(value)).encode()))
            value = value[:DEAD_LETTER_BYTES_MAX]
        return Message(DEAD_LETTERS, None, self.key, value, headers)


def reason_of(letter: Message) -> str:
    """The reason that stands in a dead letter."""
    return next(value.decode() for name, value in letter.headers if name == REASON_HEADER)


@lru_cache(maxsize=1_024)
def _shared_headers(topic: str, partition: int, group: str, reason: Reason) -> tuple[tuple[str, bytes], ...]:
    """Those that all letters of one partition and reason have: thousands may come at once."""
    texts = {
        f"{PREFIX}topic": topic,
        f"{PREFIX}partition": str(partition),
        f"{PREFIX}connector.name": group,
        f"{PREFIX}task.id": str(partition),
        f"{PREFIX}stage": stage(reason),
        f"{PREFIX}class.name": "feedrank.streams.codec",
        REASON_HEADER: reason.value,
    }
    return tuple((name, text.encode()) for name, text in texts.items())
