"""A `feedrank worker` whose checkpoints are no transactions: `python -m benchmarks.unfenced worker`.

Its producers are idempotent, as good as one can have it without a transactional id: nobody is fenced, and a
kill can leave half of a checkpoint visible. It exists to measure what transactions cost.
"""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaProducer

import streams.checkpoint
import streams.record_batch
from feedrank.cli import main


class PlainProducer(AIOKafkaProducer):  # type: ignore[misc]
    """Takes what a checkpointer gives a transactional producer."""

    def __init__(self, **options: Any) -> None:
        del options["transactional_id"], options["transaction_timeout_ms"]
        super().__init__(**options, enable_idempotence=True)

    async def begin_transaction(self) -> None:
        """There is none."""

    async def commit_transaction(self) -> None:
        """What was sent is acknowledged by now: the checkpointer awaits it before."""


if __name__ == "__main__":
    streams.checkpoint.AIOKafkaProducer = PlainProducer
    streams.record_batch._TRANSACTIONAL = 0
    main()
