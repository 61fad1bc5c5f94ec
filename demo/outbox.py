"""Sends what the simulated people do to Kafka, counts what the broker has taken, and keeps a record (1).

The record is the format of `feedrank load jsonl`: the run can be replayed into any other installation.
Broken records are in it as they were, so that a replay finds every record at its place.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from demo.world import WorldItem
from streams.codec import encode_activity, encode_item
from streams.concerns import KafkaSettings
from streams.errors import ExitCode, OperatorError
from wire.names import ACTIVITIES, ITEMS

LINGER_MS = 10
PAST_LINGER_MS = 400
"""The mock broker hands out one produced batch of a partition per fetch: small batches are slow to read."""
DELIVERY_MS = 20_000
FLUSH_S = 20.0
FULL_QUEUE_POLL_S = 0.1
BROKEN = (b"", b"{not json", b"\x00\x00\x00\x00\x00truncated", b"\x00\x00\x00\x00\x07of an unknown schema")


class Recording:
    """A JSON lines file that several processes may append to: lines are only ever written whole."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lines: list[bytes] = []

    def add(self, kind: str, fields: Mapping[str, Any]) -> None:
        """One item or activity; what is None is left out."""
        present = {name: value for name, value in fields.items() if value is not None}
        self._lines.append(orjson.dumps({"type": kind, **present}, option=orjson.OPT_APPEND_NEWLINE))

    def write(self) -> None:
        """Write what was added."""
        lines, self._lines = b"".join(self._lines), []
        while lines:
            lines = lines[os.write(self._file, lines) :]

    def close(self) -> None:
        """Write the rest and close."""
        self.write()
        os.close(self._file)


class KafkaOutbox:
    """`acked` counts activities that the broker has taken, `items` the items. Implements traffic.Outbox.

    Its methods raise OperatorError when the broker did not take something.
    """

    def __init__(self, kafka: KafkaSettings, recording: Recording) -> None:
        self.acked = 0
        self.items = 0
        self._broken = 0
        self._failed: KafkaError | None = None
        self._recording = recording
        self._connection = kafka.confluent()
        self._producer = self._connected(PAST_LINGER_MS)

    def _connected(self, linger_ms: int) -> Producer:
        return Producer(
            {
                **self._connection,
                "log_level": 0,
                "partitioner": "murmur2_random",
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": linger_ms,
                "delivery.timeout.ms": DELIVERY_MS,
            }
        )

    def past_is_over(self) -> None:
        """From now on records leave soon, not in large batches."""
        self.flush()
        self._producer = self._connected(LINGER_MS)

    def activity(self, record: Mapping[str, Any]) -> None:
        """Send one activity under its event time."""
        self._recording.add("activity", record)
        self._produce(ACTIVITIES, record["actor"], encode_activity(record), record["event_time"])

    def broken(self, actor: str, time_ms: int) -> None:
        """Send one of several things that are no activity."""
        self._broken += 1
        value = BROKEN[self._broken % len(BROKEN)]
        self._recording.add(
            "record", {"key": actor, "timestamp": time_ms, "value": b64encode(value).decode()}
        )
        self._produce(ACTIVITIES, actor, value, time_ms)

    def item(self, item: WorldItem) -> None:
        """Send one item under the time of its creation; `flush` before anyone acts on it."""
        record = {
            "item_id": item.item_id,
            "author": item.author,
            "created_at": item.created_ms,
            "topics": list(item.topics),
            "title": item.title,
            "embedding": [round(float(x), 5) for x in item.embedding],
        }
        self._recording.add("item", record)
        self._produce(ITEMS, item.item_id, encode_item(record), item.created_ms)

    def poll(self) -> None:
        """Hear of deliveries and write the record; call it often."""
        self._producer.poll(0)
        self._recording.write()
        if self._failed:
            raise OperatorError(
                f"the embedded Kafka did not take a record: {self._failed.str()}; see the run's logs",
                ExitCode.BROKER_UNREACHABLE,
            )

    def flush(self) -> None:
        """Wait until the broker has taken everything."""
        left = self._producer.flush(FLUSH_S)
        self.poll()
        if left:
            raise OperatorError(
                f"the embedded Kafka has not taken {left} records in {FLUSH_S:.0f} s; see the run's logs",
                ExitCode.BROKER_UNREACHABLE,
            )

    def _produce(self, topic: str, key: str, value: bytes, time_ms: int) -> None:
        while True:
            try:
                self._producer.produce(
                    topic, value, key.encode(), timestamp=time_ms, on_delivery=self._delivered
                )
            except BufferError:  # the queue is full: let deliveries make room
                self._producer.poll(FULL_QUEUE_POLL_S)
            except KafkaException as error:
                self._failed = self._failed or error.args[0]
                return
            else:
                return

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error:
            self._failed = self._failed or error
        elif message.topic() == ITEMS:
            self.items += 1
        else:
            self.acked += 1
