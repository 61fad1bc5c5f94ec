"""Keeps the lag true where nothing is fetched (1): a partition that waits is asked where it ends.

Fetches tell where a log ends. A partition that waits (for a schema, a checkpoint, memory) gets none, so its
lag would stand still just when somebody looks at it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.log import logger
from streams.shard import Shard
from streams.transport import ShardTable

LOOK_EVERY_S = 5.0

log = logger(__name__)


@dataclass(slots=True)
class LagWatch:
    """`ends_of`: where partitions end, as a broker says."""

    tables: tuple[ShardTable[Any], ...]
    ends_of: Callable[[Iterable[TopicPartition]], Awaitable[dict[TopicPartition, int]]]

    async def run(self) -> None:
        """Look every few seconds, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look(time.monotonic())

    async def look(self, now_s: float) -> None:
        """Ask for those of which nothing was heard since about the last look."""
        silent: dict[TopicPartition, Shard[Any]] = {
            TopicPartition(shard.topic, shard.partition): shard
            for table in self.tables
            for shard in table.shards.values()
            if shard.heard_s < now_s - LOOK_EVERY_S
        }
        if not silent:
            return
        try:
            ends = await self.ends_of(silent)
        except KafkaError as error:
            log.debug("nobody says where partitions end", why=str(error))
            return
        for tp, end in ends.items():
            silent[tp].hear(end)
