"""The whole job in one process, one step after the other, without Kafka, RocksDB and Redis.

Shards, ingest, heartbeat, item index, emission and settle are the real ones. What they talk to is replaced by
lists and dictionaries (`outside.py`). `faults.py` decides what happens when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np

from models.due import DueQueue
from models.item_columns import ItemRecord
from models.item_index import ItemIndex
from models.policy import Policy
from streams.batch import RecordBatch
from streams.durable import POSITION_KEY
from streams.health import Health
from streams.loop_watch import Progress
from streams.metrics import Metrics
from streams.turns import Turns
from tests.oracle.records import Item
from tests.topologies.outside import ITEMS, NAMES, USERS, Board, Decoder, Heads, Key, LocalStore, Topics
from topologies.catalogue import Catalogue
from topologies.clock import StreamClock
from topologies.delivery import Delivery
from topologies.emission import Emission
from topologies.feed_making import FeedMaker
from topologies.heartbeat import Heartbeat
from topologies.ingest import ItemIngest, UserIngest
from topologies.item_shard import ItemShard
from topologies.settler import Settler
from topologies.ticks import TickGate
from topologies.user_rows import UserRows
from topologies.user_shard import UserShard
from topologies.worker import Worker
from wire.names import ACTIVITIES

T = TypeVar("T")
TICK_MS = 10_000
GRACE_MS = 300


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to its end what waits for nothing but its turn."""
    while True:
        try:
            waits_for = work.send(None)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        assert waits_for is None, f"{work} waits for {waits_for}: nobody would ever wake it"


class AtOnce(Turns):
    """Nobody else is there: each has its turn in the next round."""

    async def take(self, by: str, weight: float = 1.0) -> None:
        await asyncio.sleep(0)
        self._mine = True


# -- one shard ---------------------------------------------------------------------------------------------


class LocalShard:
    """What streams.shard.Shard is to a topology. `cut_soon` is nothing: checkpoints come when they come."""

    def __init__(self, key: Key, state: Any, store: LocalStore, topics: Topics) -> None:
        self.key, self.state, self.store, self._topics = key, state, store, topics
        self.topic, self.partition = key
        self.names, self.checkpoints, self.closed = f"{key}", self, False
        self._through: int | None = None
        self._committed_through = self._recover()
        self.next_offset: int = state.position

    def _recover(self) -> int:
        """Rows from disk and changelog; returns where the changelog goes on."""
        position = self.store.rows.get(POSITION_KEY)
        if position is not None:
            self.state.restore([(POSITION_KEY, position)])
        log = self._topics.changelogs[self.key]
        if log[self.store.changelog_next :]:
            self.state.restore(log[self.store.changelog_next :])
        if self.key[0] == ITEMS:
            run(Worker._wake_items(self))
        return len(log)

    @property
    def source(self) -> Sequence[Any]:
        topics = self._topics
        return (topics.activities if self.key[0] == USERS else topics.deltas)[self.partition]

    @property
    def highwater(self) -> int:
        return len(self.source)

    @property
    def lag(self) -> int:
        return self.highwater - self.next_offset

    def cut_soon(self) -> None: ...

    async def cut_now(self) -> None:
        self.checkpoint()

    async def flush_now(self) -> None:
        self.checkpoint()
        while self.flush():
            pass

    def checkpoint(self, acknowledged: bool = True) -> None:
        """Commit; a checkpoint that is not acknowledged ends the shard."""
        cut = self.state.cut(1)
        if not cut.nothing:
            self._topics.commit(self.key, cut)
        if acknowledged:
            self.state.committed(cut)
            self._committed_through = len(self._topics.changelogs[self.key])

    def flush(self, rows_max: int = 20) -> bool:
        """One slice to RocksDB, as streams.flush does; False when there is nothing."""
        if self._through is None:
            self._through = self._committed_through
        rows = self.state.flush_slice(rows_max)
        self.store.write(rows)
        self.state.flushed(rows)
        if len(rows) < rows_max or rows[-1][0] == POSITION_KEY:
            if rows:
                self.store.changelog_next = self._through
            self._through = None
        return bool(rows)

    def close(self) -> None:
        self.closed = self.store.closed = True


# -- one worker --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """Rows in memory per shard and users ranked at once; the last two decide how often rows come and go."""

    users: int = 10_000
    items: int = 10_000
    ranked: int = 16


class LocalWorker:
    """A process: what it holds in memory is gone with it, `disk` stays."""

    def __init__(
        self,
        topics: Topics,
        policy: Policy,
        sizes: Sizes,
        heads: Heads,
        board: Board,
        disk: dict[Key, LocalStore],
    ) -> None:
        self.topics, self.policy, self.sizes, self.disk = topics, policy, sizes, disk
        self.users: Any = SimpleNamespace(shards={})
        self.items: Any = SimpleNamespace(shards={})
        self.read_items, self.read_features = 0, [0] * topics.partitions
        clock, metrics, health = StreamClock(None), Metrics(), Health()
        anything: Any = SimpleNamespace
        self.catalogue = Catalogue(
            ItemIndex(10_000),
            anything(),
            None,
            topics.partitions,
            lambda fps: self._items_came(fps),
            turns=AtOnce(),
        )
        self.maker = FeedMaker(policy, self.catalogue.index, int(policy.hash, 16))
        self.emission = Emission(
            _as(self.users), self.catalogue, self.maker, Delivery(_as(heads), _as(self), metrics, health),
            clock, metrics, DueQueue(), sizes.ranked, policy.feed.active_days * 86_400_000,
            AtOnce(),
        )  # fmt: skip
        self.heartbeat = Heartbeat(
            _as(self.users), _as(self.items), self.catalogue, clock, metrics, Progress()
        )
        self.settler = Settler(
            _as(board), _as(self.users), self.catalogue, self, self.heartbeat, self.emission, sizes.ranked
        )
        self.user_ingest = UserIngest(
            _as(Decoder(policy)), None, self, self.emission.signalled, clock, metrics, health, turns=AtOnce()
        )
        self.item_ingest = ItemIngest(self, metrics, AtOnce())
        self.board = board

    def _items_came(self, fps: Any) -> None:
        self.maker.forget(self.catalogue.index.lookup(fps))
        self.emission.items_came(fps)

    async def caught_up(self, timeout_s: float | None = None) -> None:
        """The items reader of ingest and settle."""
        self.tail_items(len(self.topics.items))

    async def send(self, partition: int, made: Any, outcomes: Any) -> None:
        """The served log."""

    # -- steps -----------------------------------------------------------------------------------------

    def open(self, key: Key) -> None:
        job, partition = key
        store = self.disk.setdefault(key, LocalStore())
        store.closed = False
        state: UserShard | ItemShard
        if job == USERS:
            rows = UserRows(self.sizes.users, resident=True)
            index, verbs = self.catalogue.index, self.policy.verbs
            state = UserShard(NAMES, partition, self.topics.partitions, verbs, index, TICK_MS, rows)
        else:
            gate = TickGate(self.topics.partitions, TICK_MS, GRACE_MS)
            live = self.catalogue.live
            state = ItemShard(NAMES, partition, gate, self.sizes.items, resident=True, live=live)
        self.table(job).shards[partition] = LocalShard(key, state, store, self.topics)

    def table(self, job: str) -> Any:
        return self.users if job == USERS else self.items

    def lose(self, key: Key) -> None:
        """The shard is given up as it is."""
        self.table(key[0]).shards.pop(key[1]).close()

    def batch(self, key: Key, count: int) -> RecordBatch:
        """The next `count` records of a shard, or as many as there are."""
        shard: LocalShard = self.table(key[0]).shards[key[1]]
        start = shard.next_offset
        values: Any = list(shard.source[start : start + count])
        offsets = np.arange(start, start + len(values))
        end, keys = start + len(values), list[bytes | None]([None] * len(values))
        return RecordBatch(ACTIVITIES, shard.partition, start, end, offsets, offsets, keys, values)

    def ingest(self, key: Key, count: int) -> None:
        """Apply the next `count` records of a shard."""
        shard: LocalShard = self.table(key[0]).shards[key[1]]
        batch = self.batch(key, count)
        if not len(batch):
            return
        ingest: Any = self.user_ingest if key[0] == USERS else self.item_ingest
        run(ingest.apply(shard, batch))
        assert shard.state.position == batch.next_offset
        shard.next_offset = batch.next_offset

    def tail_items(self, count: int) -> None:
        new = self.topics.items[self.read_items :][:count]
        self.read_items += len(new)
        if new:
            records = [_record(item) for item in new]
            self.catalogue.index.upsert(records)
            self._items_came(np.array([item.fp for item in new], np.uint64))

    def tail_features(self, partition: int, count: int) -> None:
        start = self.read_features[partition]
        new = self.topics.features[partition][start : start + count]
        if new:
            end, offsets = start + len(new), np.arange(start, start + len(new))
            keys, values = zip(*new, strict=True)
            batch = RecordBatch("", partition, start, end, offsets, offsets, list(keys), list(values))
            run(self.catalogue.features_came(batch))
            self.read_features[partition] = end

    def refresh(self) -> None:
        tick = min(self.catalogue._markers)
        if tick > self.catalogue.tick:
            run(self.catalogue.refresh(tick, tick * TICK_MS))

    def settle(self, now_ms: int) -> None:
        """What the settler does at each poll."""
        self.heartbeat.asked(self.board.request, now_ms)
        run(self.settler.serve(self.board.request))

    def emit(self) -> None:
        """What the loop of emission does with who is due."""
        for due in self.emission.due.pop(self.sizes.ranked, 1 << 40):
            shard = self.users.shards.get(int.from_bytes(due.user[:2], "big"))
            if shard is not None:
                run(self.emission.emit(shard, [due.user[2:]], self.emission.as_of_ms()))


def _as(it: Any) -> Any:
    """What stands in for something else."""
    return it


def _record(item: Item) -> ItemRecord:
    embedding = None if item.embedding is None else np.array(item.embedding, np.int8)
    return ItemRecord(item.item_id, item.author, item.created_ms, item.topics, embedding, item.title)
