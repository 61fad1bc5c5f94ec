"""The whole job in one process, without Kafka, RocksDB or Redis: the pure steps, one after the other."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from models.columns import ActivityColumns
from models.fingerprint import fp64s
from models.item_columns import ItemRecord
from models.item_index import ItemIndex
from models.items import DERIVED
from models.policy import Policy
from streams.durable import POSITION_KEY, Cut
from tests.oracle.records import KINDS, Activity, Item
from topologies.feed_making import FeedMaker, MadeFeed
from topologies.item_shard import MARKER_KEY, ItemShard
from topologies.ticks import TickGate, TickMark
from topologies.user_rows import UserRows
from topologies.user_shard import UserShard
from wire.names import Namespace
from wire.partitioner import partition_of

TICK_MS = 10_000
ROWS_MAX = 100_000
USERS_MAX = 64


class FastPath:
    """User shards, item shards, one item index, one feed maker. `cuts` decides where batches are cut."""

    def __init__(self, policy: Policy, partitions: int, cuts: random.Random) -> None:
        names = Namespace("test")
        self.policy, self.cuts = policy, cuts
        self.index = ItemIndex(ROWS_MAX)
        self.users = [
            UserShard(
                names, p, partitions, policy.verbs, self.index, TICK_MS, UserRows(ROWS_MAX, resident=True)
            )
            for p in range(partitions)
        ]
        self.items = [
            ItemShard(names, p, TickGate(partitions, TICK_MS, grace_ms=1 << 40), ROWS_MAX)
            for p in range(partitions)
        ]
        for shard in self.items:
            shard.resident = True
        self.user_changelog: dict[bytes, bytes | None] = {}
        self.item_changelog: dict[bytes, bytes | None] = {}
        self.tick = -1
        self.marks: list[TickMark] = []
        self._on_the_way: list[list[bytes | None]] = [[] for _ in range(partitions)]

    # -- in --------------------------------------------------------------------------------------------

    def put(self, items: Iterable[Item]) -> None:
        self.index.upsert(
            ItemRecord(
                item.item_id,
                item.author,
                item.created_ms,
                item.topics,
                None if item.embedding is None else np.array(item.embedding, np.int8),
                item.title,
            )
            for item in items
        )

    def remove(self, fps: Sequence[int]) -> None:
        self.index.remove(np.array(fps, np.uint64))

    def act(self, activities: Sequence[Activity]) -> None:
        """Apply activities in slices of any size, with checkpoints in between."""
        by_partition: dict[int, list[Activity]] = {}
        for one in activities:
            partition = partition_of(one.actor.encode(), len(self.users))
            by_partition.setdefault(partition, []).append(one)
        for partition, mine in by_partition.items():
            shard, at = self.users[partition], 0
            while at < len(mine):
                part = columns(mine[at : at + self.cuts.randint(1, 400)], self.policy, shard.position)
                assert shard.rows.make_resident(part.keys) == []
                shard.apply(part, shard.plan(part), [], shard.position + len(part))
                at += len(part)
                if self.cuts.random() < 0.3:
                    self._checkpoint(shard)

    def _checkpoint(self, shard: UserShard, watermark_ms: int | None = None) -> None:
        shard.watermark_ms = shard.stream_ms if watermark_ms is None else watermark_ms
        for message in _committed(shard, self.user_changelog).messages:
            assert message.partition is not None
            self._on_the_way[message.partition].append(message.value)

    def _arrive(self, owner: ItemShard, count: int) -> None:
        waiting = self._on_the_way[owner.partition]
        for value in waiting[:count]:
            deltas = owner.decode([value])
            assert owner.absent(deltas) == []
            owner.apply(deltas, owner.position + 1)
        del waiting[:count]

    # -- ticks -----------------------------------------------------------------------------------------

    def settle(self, as_of_ms: int) -> int:
        """Close the first tick that ends at `as_of_ms` or later and refresh the index; its end."""
        end_ms = -(-as_of_ms // TICK_MS) * TICK_MS
        for shard in self.users:
            self._checkpoint(shard, end_ms)
        self._close(end_ms, lambda owner: len(self._on_the_way[owner.partition]))
        return end_ms

    def tick_behind(self, as_of_ms: int) -> int:
        """The same in a job that lags: every owner closes the tick by grace, with as much as it has heard."""
        end_ms = -(-as_of_ms // TICK_MS) * TICK_MS
        for owner in self.items:
            for sender in range(len(self.users)):
                owner.gate.heard(sender, end_ms)
        self._close(end_ms, lambda owner: self.cuts.randint(0, len(self._on_the_way[owner.partition])))
        return end_ms

    def _close(self, end_ms: int, heard: Callable[[ItemShard], int]) -> None:
        for owner in self.items:
            self._arrive(owner, heard(owner))
            while owner.close_tick(0) is None:
                self._arrive(owner, self.cuts.randint(0, 2))  # while its tick is closed in part
            for message in _committed(owner, self.item_changelog).messages:
                if message.topic == owner.names.served:
                    self.marks.append(TickMark.parse(message.value or b""))
                elif message.key != MARKER_KEY:
                    fp = np.frombuffer(message.key or b"", ">u8").astype(np.uint64)
                    self.index.apply_derived(fp, np.frombuffer(message.value or b"", DERIVED))
        assert {mark.tick * TICK_MS for mark in self.marks[-len(self.items) :]} == {end_ms}
        self.tick = end_ms // TICK_MS
        self.index.refresh(self.tick, end_ms)

    # -- out -------------------------------------------------------------------------------------------

    def user_rows(self) -> dict[bytes, bytes | None]:
        return {key: value for key, value in self.user_changelog.items() if key != POSITION_KEY}

    def item_rows(self) -> dict[bytes, bytes | None]:
        return {key: value for key, value in self.item_changelog.items() if key != POSITION_KEY}

    def feeds(self, users: Sequence[str], as_of_ms: int) -> dict[tuple[str, str], MadeFeed]:
        """By (user, surface); users in slices of any size."""
        maker = FeedMaker(self.policy, self.index, int(self.policy.hash, 16))
        made: dict[tuple[str, str], MadeFeed] = {}
        for partition, shard in enumerate(self.users):
            mine = [u.encode() for u in users if partition_of(u.encode(), len(self.users)) == partition]
            while mine:
                count = self.cuts.randint(1, USERS_MAX)
                for one in maker.make(shard, mine[:count], self.tick, as_of_ms):
                    made[one.feed.user, one.feed.surface] = one
                mine = mine[count:]
        return made


def _committed(shard: UserShard | ItemShard, changelog: dict[bytes, bytes | None]) -> Cut:
    cut = shard.cut(1)
    changelog.update(cut.rows)
    shard.committed(cut)
    return cut


def columns(activities: Sequence[Activity], policy: Policy, offset: int) -> ActivityColumns:
    """What decode makes of these records."""
    code = policy.verbs.code
    times = np.array([one.time_ms for one in activities], np.int64)
    return ActivityColumns(
        keys=[one.actor.encode() for one in activities],
        offset=np.arange(offset, offset + len(activities)),
        record_ms=times,
        event_ms=times,
        activity_fp=fp64s(one.activity_id.encode() for one in activities),
        object_fp=fp64s(one.object.encode() for one in activities),
        verb=np.array([code[one.verb] for one in activities], np.int16),
        target=np.array([KINDS.index(one.target or "author") for one in activities], np.int8),
        dwell_ms=np.array([one.dwell_ms for one in activities], np.int64),
        position=np.array([one.position for one in activities], np.int16),
        slate_fp=np.zeros(len(activities), np.uint64),
        undone_verb=np.array(
            [code[one.undone_verb] if one.undone_verb else -1 for one in activities], np.int16
        ),
        undone_ms=np.array([one.undone_ms for one in activities], np.int64),
    )
