"""A producer of aiokafka that is given up: the errors that nobody will ask it for (between 2 and 11).

A fenced producer leaves the same error in futures of its own. Python reports such a future when it is
collected, at any later time and with a traceback, as if something had gone unnoticed.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer


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
