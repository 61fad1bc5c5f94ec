"""aiokafka's producer (between 2 and 11): batches that are made whole, and errors nobody will ask it for.

A fenced producer leaves the same error in futures of its own. Python reports such a future when it is
collected, at any later time and with a traceback, as if something had gone unnoticed.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.record_batch import Body, Producer, record_batch


class WholeBatch:
    """Stands where aiokafka has a BatchBuilder: full from the start, its header made when the producer knows
    its number. All records are at `now_ms`.
    """

    def __init__(self, body: Body, now_ms: int) -> None:
        self._body, self._now_ms = body, now_ms
        self._producer = Producer(-1, -1, -1)
        self._made: bytearray | None = None

    def record_count(self) -> int:
        return self._body.count

    def closed(self) -> bool:
        return True

    def close(self) -> None:
        """It is closed."""

    def append(self, **_: Any) -> None:
        """Nothing fits."""

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = Producer(producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        """What goes to the broker; the same for a retry."""
        if self._made is None:
            self._made = record_batch(self._body, self._now_ms, self._producer)
        return self._made

    def size(self) -> int:
        """Bytes on the wire; 0 before it is made."""
        return len(self._made or b"")


def forget_errors(producer: AIOKafkaProducer) -> None:
    """Mark the errors that the producer keeps for itself as seen."""
    transactions = producer._txn_manager
    waiting: list[Any] = [transactions._transaction_waiter] if transactions is not None else []
    for batches in producer._message_accumulator._batches.values():
        for batch in batches:
            waiting += [batch.future, batch._drain_waiter]
    for one in waiting:
        if isinstance(one, asyncio.Future) and one.done() and not one.cancelled():
            one.exception()
