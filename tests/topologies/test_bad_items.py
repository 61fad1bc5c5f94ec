"""More bad items than memory keeps: the owner reads them again, and each becomes one dead letter."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from models.item_index import ItemIndex
from streams.batch import RecordBatch
from streams.checkpoint import ShardLost
from streams.codec import ItemDecoder
from streams.durable import Message
from streams.loop_watch import Progress
from streams.metrics import Metrics
from tests.conftest import MakeTopic
from tests.streams.counted import counted
from tests.streams.fakes import kafka_at, produce
from tests.waiting import until_async
from topologies import bad_items
from topologies.bad_items import BadItemsAgain
from topologies.catalogue import Catalogue
from topologies.clock import StreamClock
from topologies.heartbeat import Heartbeat
from topologies.item_shard import ItemShard
from topologies.ticks import TickGate
from wire.names import Namespace

pytestmark = pytest.mark.kafka

BAD = 2_000
KEPT = 30


class OwnedShard:
    """A shard of item rows whose checkpoints always succeed; `lost` after so many of them."""

    topic, partition, next_offset, lag = "item-deltas", 0, 0, 0

    def __init__(self, lost_after: int = 1 << 30) -> None:
        self.state = ItemShard(Namespace("test"), 0, TickGate(1, 10_000, 1_000), 100, resident=True)
        self.committed: list[Message] = []
        self.cuts, self.lost_after = 0, lost_after
        self.checkpoints = self

    def cut_soon(self) -> None:
        """A tick would like a checkpoint."""

    async def cut_now(self) -> None:
        self.cuts += 1
        if self.cuts > self.lost_after:
            raise ShardLost("fenced", "another owner")
        cut = self.state.cut(1)
        self.committed += cut.messages
        self.state.committed(cut)

    def letters(self) -> list[int]:
        """Source offsets of the dead letters that were committed."""
        found = [dict(one.headers) for one in self.committed if one.headers]
        return [int(headers["__connect.errors.offset"]) for headers in found]


async def beaten(kafka: str, topic: str, shards: list[OwnedShard]) -> float:
    """A worker that has read all bad items, and beats until its shard has set all of them aside.
    Returns how many it counted."""
    failures: list[BaseException] = []
    metrics = Metrics()
    catalogue = Catalogue(ItemIndex(100), ItemDecoder("json"), None, 1, lambda fps: None)

    async def came(batch: RecordBatch) -> None:
        await catalogue.items_came(batch)

    await bad_items.read_stretch(kafka_at(kafka), topic, 0, BAD, came, partition=0, records_max=500)
    assert len(catalogue.bad_items.letters[0]) == KEPT
    table: Any = type("Table", (), {"shards": {}})()
    again = BadItemsAgain(kafka_at(kafka), catalogue.refused, failures.append, metrics)
    beat = Heartbeat(table, table, catalogue, StreamClock(None), metrics, Progress())
    beat.read_again = again.begin
    for shard in shards:

        def over(shard: OwnedShard = shard) -> bool:
            beat._tick(shard, 0)  # type: ignore[arg-type]
            return bool(failures) or shard.state.items_next.get(0, 0) >= BAD or shard.cuts > shard.lost_after

        await until_async(over, "everything is set aside, or the shard is lost")
        if shard.cuts <= shard.lost_after:
            await shard.cut_now()
    await again.stop()
    assert not failures
    return counted(metrics.dead_letters)


@pytest.fixture
def topic(kafka: str, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch) -> str:
    name = make_topic("items")
    asyncio.run(produce(kafka, name, [(b"i", b"{")] * BAD))
    monkeypatch.setattr(bad_items, "ITEMS", name)
    monkeypatch.setattr(bad_items, "KEPT_MAX", KEPT)
    return name


def test_each_is_one_dead_letter_in_order(kafka: str, topic: str) -> None:
    shard = OwnedShard()
    assert asyncio.run(beaten(kafka, topic, [shard])) == BAD
    assert shard.letters() == list(range(BAD))


def test_an_owner_that_loses_its_shard_leaves_the_rest_to_the_next(kafka: str, topic: str) -> None:
    first, second = OwnedShard(lost_after=3), OwnedShard()
    asyncio.run(beaten(kafka, topic, [first]))
    done = first.letters()
    assert 0 < len(done) < BAD
    second.state.items_next[0] = done[-1] + 1
    asyncio.run(beaten(kafka, topic, [second]))
    assert done + second.letters() == list(range(BAD))
