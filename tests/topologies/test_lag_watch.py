"""The lag of a partition that waits grows with what comes in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from topologies.lag_watch import LOOK_EVERY_S, LagWatch

NOW_S = 1_000.0


@dataclass
class Shard:
    partition: int
    heard_s: float
    topic: str = "activities"
    said: list[int] = field(default_factory=list)

    def hear(self, highwater: int) -> None:
        self.said.append(highwater)


@dataclass
class Table:
    shards: dict[int, Shard]


def watch(table: Table, asked: list[TopicPartition], fails: bool = False) -> LagWatch:
    async def ends_of(tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        asked.extend(tps)
        if fails:
            raise KafkaConnectionError("away")
        return {tp: 100 + tp.partition for tp in tps}

    return LagWatch((cast(Any, table),), ends_of)


def test_only_who_was_not_heard_of_is_asked_for() -> None:
    waits, reads = Shard(0, NOW_S - 2 * LOOK_EVERY_S), Shard(1, NOW_S - 0.1)
    asked: list[TopicPartition] = []
    asyncio.run(watch(Table({0: waits, 1: reads}), asked).look(NOW_S))
    assert asked == [TopicPartition("activities", 0)]
    assert (waits.said, reads.said) == ([100], [])
    asyncio.run(watch(Table({1: reads}), asked).look(NOW_S))
    assert len(asked) == 1


def test_a_broker_that_is_away_changes_nothing() -> None:
    waits, asked = Shard(0, float("-inf")), list[TopicPartition]()
    asyncio.run(watch(Table({0: waits}), asked, fails=True).look(NOW_S))
    assert asked
    assert not waits.said
