"""What a replay does with one partition (1 to 11): each a step that can be killed and taken up again.

Ingest, shards, ticks, catalogue and feeds are the live job's own objects; here is only what they stand on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from models.attribute_index import AttributeIndex
from models.followers import Followers
from models.item_index import ItemIndex
from models.items import DERIVED, ITEM_ROW, derive
from models.policy import Policy
from models.writeback import WrittenAtOnce
from streams.batch import RecordBatch
from streams.codec import Decoder
from streams.durable import POSITION_KEY
from streams.health import Health
from streams.metrics import Metrics
from streams.registry import Registry
from streams.settings import Settings
from streams.store import ShardStore
from topologies.catalogue import Catalogue
from topologies.clock import StreamClock
from topologies.ingest import ItemIngest, UserIngest
from topologies.item_shard import MARKER_KEY, ItemShard
from topologies.replay.deltas import Outbox, frame_bytes, messages_for
from topologies.replay.items import ReplayItems
from topologies.replay.records import RecordLog, message_batch, slices, until
from topologies.replay.shadow import Definition, Shadow, disk_error, write_atomically
from topologies.replay.shard import LocalShard, Mark, Spent
from topologies.ticks import TickGate, tick_marker, tick_of
from topologies.user_rows import UserRows
from topologies.user_shard import UserShard
from wire.names import ACTIVITIES

DELTA_RECORDS_MAX = 1_000_000
"""Activities whose item deltas are summed in memory; more go to the delta log before the checkpoint."""
DELTA_MESSAGES = 16
"""Applied to item rows at once."""
FEATURES_ROWS = 4_096
FP_BYTES = 8

Moved = Callable[[int], bool]
"""Told of each so many records that are done; False: make what is done durable and stop."""


class NothingMore:
    """The items reader of ingest: all items were read before the first activity."""

    async def caught_up(self, timeout_s: float | None = None) -> None:
        """They are."""


@dataclass(slots=True)
class Steps:
    """The steps of one replay in one process. `partitions` of activities are those of item rows too."""

    shadow: Shadow
    definition: Definition
    settings: Settings
    policy: Policy
    log: RecordLog
    registry: Registry | None = None
    metrics: Metrics = field(default_factory=Metrics)
    rows_max: int = 0
    """User rows in memory; 0: what the settings say."""
    spent: Spent = field(default_factory=Spent)
    items: ReplayItems = field(init=False)

    def __post_init__(self) -> None:
        self.rows_max = self.rows_max or self.settings.worker.arena_rows_max
        items_max = self.settings.ranking.items_live_max
        self.items = ReplayItems(self.definition, self.log, self.registry, items_max)

    @property
    def _slice_records(self) -> int:
        """No slice may hold more users than memory has rows."""
        return min(self.settings.worker.replay_records_max, self.rows_max)

    async def catalogue(self) -> Catalogue:
        """The item index with all items of the definition (5), made at the first call."""
        return await self.items.catalogue()

    # -- users (1, 2, 3) -------------------------------------------------------------------------------

    def open_users(self, partition: int, store: ShardStore, index: ItemIndex | AttributeIndex) -> UserShard:
        """An empty state, its rows still in the store."""
        rows = UserRows(self.rows_max, followers=Followers(0), back=WrittenAtOnce())
        one = self.definition
        return UserShard(one.names, partition, one.partitions, self.policy.verbs, index, one.tick_ms, rows)

    async def users(self, partition: int, moved: Moved) -> bool:
        """Apply one partition's activities; False when `moved` stopped it before the end."""
        store = ShardStore(self.shadow.users(partition))
        try:
            return await self._users(partition, store, moved)
        finally:
            store.close()

    async def _users(self, partition: int, store: ShardStore, moved: Moved) -> bool:
        one, index = self.definition, await self.items.known()
        state = self.open_users(partition, store, index)
        sent = Outbox(self.shadow.deltas(partition), self.items.dead)
        shard = LocalShard(ACTIVITIES, partition, state, store, sent.take)
        mark = shard.restore()
        if mark is None:
            state.skip_to(one.starts[partition])
            state.rows.resident = True
        sent.open(mark)
        end = shard.highwater = one.ends[partition]
        ingest = self._ingest()
        try:
            going = moved(state.position - one.starts[partition])
            async for batch in self.log.activities(partition, state.position, end):
                if not going:
                    break
                for part in slices(until(batch, end), self._slice_records):
                    before = state.position
                    await ingest.apply(shard, part)  # type: ignore[arg-type]
                    going = moved(state.position - before) and going
                if state.deltas.records >= DELTA_RECORDS_MAX:
                    sent.append(
                        state.deltas.drain(one.partitions, partition, state.stream_ms, state.position)
                    )
                if shard.checkpoint_due:
                    shard.checkpoint()
            if going:
                state.pass_over([], end)  # past markers and holes at the end of the range
            self.spent.result_s += shard.checkpoint()
            return going
        finally:
            sent.close()
            self.spent.checkpoint_s += shard.seconds

    def _ingest(self) -> UserIngest:
        decoder = Decoder(
            self.definition.value_format, self.policy.verbs, self.definition.partitions, self.registry
        )
        return UserIngest(
            decoder,
            self.registry,
            NothingMore(),
            lambda shard, signals: None,
            StreamClock(None),
            self.metrics,
            Health(),
        )

    def stream_ms(self) -> int:
        """The newest event time of all partitions. Call when all users are done."""
        return max(
            (
                position_of(self.shadow.users(p)).get("stream_ms", 0)
                for p in range(self.definition.partitions)
            ),
            default=0,
        )

    # -- items (4) -------------------------------------------------------------------------------------

    async def item_rows(self, partition: int, moved: Moved) -> bool:
        """Apply what all user shards sent to one partition of items; False when stopped before the end."""
        store = ShardStore(self.shadow.item_rows(partition))
        try:
            return await self._item_rows(partition, store, moved)
        finally:
            store.close()

    async def _item_rows(self, partition: int, store: ShardStore, moved: Moved) -> bool:
        one, ranking = self.definition, self.settings.ranking
        items = await self.items.known()
        gate = TickGate(one.partitions, one.tick_ms, ranking.tick_grace_ms)
        state = ItemShard(
            one.names,
            partition,
            gate,
            2 * ranking.items_live_max,
            back=WrittenAtOnce(),
            live=lambda fps: items.lookup(fps) >= 0,
        )
        at: Mark = {"sender": 0, "byte": 0}
        shard = LocalShard(one.names.item_deltas, partition, state, store, lambda messages: at)
        found = shard.restore()
        if found is None:
            state.resident = True
        else:
            at.update(found)
        ingest, going = ItemIngest(NothingMore(), self.metrics), True
        for sender, byte, messages in self._messages(partition, dict(at)):
            batch = message_batch(one.names.item_deltas, partition, state.position, messages)
            await ingest.apply(shard, batch)  # type: ignore[arg-type]
            at.update(sender=sender, byte=byte)
            going = moved(sum(frame_bytes(one) for one in messages))
            if not going:
                break
            if shard.checkpoint_due:
                shard.checkpoint()
        self.spent.result_s += shard.checkpoint()
        self.spent.checkpoint_s += shard.seconds
        return going

    def _messages(self, partition: int, at: Mark) -> Iterator[tuple[int, int, list[bytes]]]:
        """Messages to a partition from a mark on, sender by sender, some at once."""
        for sender in range(at["sender"], self.definition.partitions):
            start = at["byte"] if sender == at["sender"] else 0
            held: list[bytes] = []
            byte = start
            for byte, value in messages_for(self.shadow.deltas(sender), partition, start):
                held.append(value)
                if len(held) == DELTA_MESSAGES:
                    yield sender, byte, held
                    held = []
            if held:
                yield sender, byte, held

    # -- ticks (4, 5) ----------------------------------------------------------------------------------

    async def features(self, partition: int, as_of_ms: int, moved: Moved) -> bool:
        """Derive the records of one partition's items at the settled tick, and keep them."""
        tick = tick_of(as_of_ms, self.definition.tick_ms)
        store = ShardStore(self.shadow.item_rows(partition))
        path, parts = self.shadow.features(partition), list[bytes]()
        try:
            for chunk in store.scan(b"i", FEATURES_ROWS):
                rows = np.frombuffer(b"".join(value for _, value in chunk), ITEM_ROW)
                block, size = derive(rows, tick, as_of_ms).tobytes(), DERIVED.itemsize
                parts += [key[1:] + block[i * size : (i + 1) * size] for i, (key, _) in enumerate(chunk)]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, b"".join(parts))
        except OSError as error:
            raise disk_error(path, error) from error
        finally:
            store.close()
        return moved(1)

    async def settled_catalogue(self, as_of_ms: int) -> Catalogue:
        """The item index refreshed at the settled tick, from the records of all partitions."""
        catalogue, one = await self.catalogue(), self.definition
        tick = tick_of(as_of_ms, one.tick_ms)
        if catalogue.tick < tick:
            for partition in range(one.partitions):
                # nobody asks what it contains
                marker = tick_marker(tick, as_of_ms, [0] * one.partitions, partition)
                keys, values = derived_records(self.shadow.features(partition).read_bytes())
                keys.append(MARKER_KEY)
                values.append(marker)
                count = len(keys)
                offsets = np.arange(count)
                await catalogue.features_came(
                    RecordBatch(
                        one.names.item_features, partition, 0, count, offsets, offsets, [*keys], [*values]
                    )
                )
            await catalogue.refresh(tick, as_of_ms)
        return catalogue


def derived_records(block: bytes) -> tuple[list[bytes], list[bytes]]:
    """Keys and values of item-features as `Steps.features` keeps them."""
    size = FP_BYTES + DERIVED.itemsize
    starts = range(0, len(block), size)
    return [block[at : at + FP_BYTES] for at in starts], [block[at + FP_BYTES : at + size] for at in starts]


def position_of(path: Path) -> dict[str, Any]:
    """The position record of a shard that nobody has open; empty when it has none."""
    if not path.exists():
        return {}
    store = ShardStore(path)
    try:
        found = store.get(POSITION_KEY)
        return {} if found is None else dict(orjson.loads(found))
    finally:
        store.close()
