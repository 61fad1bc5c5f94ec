"""Sends a reader's events to the topics: keyed as Java does it, record timestamp = event time (step 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from feedrank.load.events import Event, ItemEvent, RawEvent
from streams.codec.encode import encode_activity, encode_item
from streams.concerns import KafkaSettings
from streams.errors import ExitCode, OperatorError
from streams.registry import Registry
from wire.names import ACTIVITIES, ITEMS

CHUNK_EVENTS = 5_000
LINGER_MS = 20
DELIVERY_MS = 30_000
FLUSH_S = 60.0
FULL_QUEUE_POLL_S = 0.1

Encode = Callable[[Event], bytes]
_WRONG_RECORD = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
    }
)
"""What a broker says of a record, not of itself: waiting does not help."""


@dataclass(slots=True)
class Sent:
    """Records that the broker has acknowledged."""

    items: int = 0
    activities: int = 0


def encoder(form: Literal["avro", "json"], registry: Registry | None = None) -> Encode:
    """How a record's value is written; with a registry, under the ids that it gives the bundled schemas."""
    item_id = activity_id = 0
    if form == "avro" and registry:
        item_id = registry.register(ITEMS, "item")
        activity_id = registry.register(ACTIVITIES, "activity")

    def encode(event: Event) -> bytes:
        if isinstance(event, RawEvent):
            return event.value
        if isinstance(event, ItemEvent):
            return encode_item(event.record(), form, item_id)
        return encode_activity(event.record(), form, activity_id)

    return encode


class Sender:
    """Sends events in chunks: a chunk's items are acknowledged before its activities leave, so that whoever
    reads an activity can find its item. Order within a partition is the events' order."""

    def __init__(self, kafka: KafkaSettings, encode: Encode) -> None:
        self._encode = encode
        self._failed: OperatorError | None = None
        self._failed_bytes = -1
        self._where = kafka.bootstrap_servers
        self.sent = Sent()
        self._producer = Producer(
            {
                **kafka.confluent(),
                "log_level": 0,
                "partitioner": "murmur2_random",
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": LINGER_MS,
                "delivery.timeout.ms": DELIVERY_MS,
            }
        )

    def send(self, events: Iterable[Event]) -> Iterator[int]:
        """Send all; yield the number of events of each chunk as it is handed over, for a progress bar.

        Raises OperatorError when the broker does not take a record in time, and (bad input) when it refuses
        one for what it is.
        """
        remaining = iter(events)
        while chunk := list(islice(remaining, CHUNK_EVENTS)):
            items = [event for event in chunk if isinstance(event, ItemEvent)]
            for item in items:
                self._produce(ITEMS, item)
            if items:
                self._flush()
            for event in chunk:
                if not isinstance(event, ItemEvent):
                    self._produce(ACTIVITIES, event)
            yield len(chunk)
        self._flush()

    def _produce(self, topic: str, event: Event) -> None:
        try:
            value = self._encode(event)
        except ValueError as error:
            raise OperatorError(f"{_named(event)}: {error}", ExitCode.BAD_INPUT) from error
        heard = partial(self._delivered, event, len(value))
        while True:
            try:
                self._producer.produce(
                    topic, value, event.key.encode(), timestamp=event.time_ms, on_delivery=heard
                )
                self._producer.poll(0)
                break
            except BufferError:  # the queue is full: let deliveries make room
                self._producer.poll(FULL_QUEUE_POLL_S)
            except KafkaException as error:
                raise self._refused(error.args[0], event, len(value)) from error
        self._raise_failed()

    def _delivered(self, event: Event, size: int, error: KafkaError | None, message: Message) -> None:
        if error:  # of what is refused with the batch that it was in, the largest is the likely cause
            if size > self._failed_bytes:
                self._failed, self._failed_bytes = self._refused(error, event, size), size
        elif message.topic() == ITEMS:
            self.sent.items += 1
        else:
            self.sent.activities += 1

    def _flush(self) -> None:
        left = self._producer.flush(FLUSH_S)
        self._raise_failed()
        if left:
            raise OperatorError(
                f"Kafka at {self._where} has not taken {left} records in {FLUSH_S:.0f} s; look at its load",
                ExitCode.BROKER_UNREACHABLE,
            )

    def _raise_failed(self) -> None:
        if self._failed:
            raise self._failed

    def _refused(self, error: KafkaError, event: Event, size: int) -> OperatorError:
        done = f"{self.sent.items} items and {self.sent.activities} activities were sent before"
        if error.code() in _WRONG_RECORD:
            return OperatorError(
                f"{_named(event)} ({size:,} bytes): Kafka at {self._where} refuses it: {error.str()}; "
                f"{done}. Correct or remove it and load again: activity ids are the same, so what is "
                "repeated at once counts once",
                ExitCode.BAD_INPUT,
            )
        return OperatorError(
            f"Kafka at {self._where} did not take a record: {error.str()}; {done}. Mend it and load again: "
            "activity ids are the same, so what is repeated at once counts once",
            ExitCode.BROKER_UNREACHABLE,
        )


def _named(event: Event) -> str:
    """Where it was read, or what it is called."""
    if isinstance(event, RawEvent):
        return (
            f"line {event.line}, the record of {event.key!r}" if event.line else f"a record of {event.key!r}"
        )
    if isinstance(event, ItemEvent):
        return f"the item {event.item_id!r}"
    return f"the activity {event.activity_id!r}"
