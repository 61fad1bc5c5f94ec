"""The worker's item index (5), fed by readers that tail `items` and `item-features` without a group.

It is refreshed when the markers of a tick have come from every partition of item-features: with the
statistics of that tick and no later one, in one turn, beside the loop. So feeds are ranked before or after a
refresh, never within: a feed's tick says exactly which activities its statistics contain. Whoever waits for a
tick waits here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import orjson
from numpy.typing import NDArray

from models.fingerprint import fp64s
from models.item_index import ItemIndex
from models.items import DERIVED
from streams.batch import RecordBatch
from streams.codec import ItemChanges, ItemDecoder
from streams.dead_letters import DeadLetter
from streams.errors import ExitCode, OperatorError
from streams.log import logger
from streams.registry import Registry, once_told
from streams.turns import Turns
from topologies.bad_items import BadItems
from topologies.feed_making import ItemsKnown
from topologies.item_keys import FP_BYTES, fps_of
from topologies.item_shard import MARKER_KEY
from topologies.row_format import records_of_today
from topologies.staged import Records, Staged
from topologies.ticks import NEVER

U64 = NDArray[np.uint64]
TURN = "items"

log = logger(__name__)


@dataclass(slots=True)
class Catalogue:
    """`partitions`: of item-features. `on_items` hears of the fps (uint64[k]) of items that came or changed.

    `tick`, `as_of_ms`: what the index was last refreshed at (NEVER before the first). `positions`: by
    partition of activities, up to where its statistics contain them. `bad_items`: dead letters, which their
    shard commits.
    """

    index: ItemIndex
    decoder: ItemDecoder
    registry: Registry | None
    partitions: int
    on_items: Callable[[U64], None]
    tick: int = NEVER
    as_of_ms: int = 0
    positions: list[int] = field(default_factory=list)
    bad_items: BadItems = field(default_factory=BadItems)
    turns: Turns = field(default_factory=Turns)
    items_next: dict[int, int] = field(default_factory=dict)
    _listed: tuple[int, ...] = ()
    _staged: list[Staged] = field(default_factory=list)
    _markers: list[int] = field(default_factory=list)
    _as_of_ms: dict[int, int] = field(default_factory=dict)
    _contained: dict[int, Sequence[int]] = field(default_factory=dict)
    _marked: asyncio.Event = field(default_factory=asyncio.Event)
    _refreshed: asyncio.Event = field(default_factory=asyncio.Event)
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._markers = [NEVER] * self.partitions
        self._staged = [Staged() for _ in range(self.partitions)]

    async def items_came(self, batch: RecordBatch) -> None:
        """One fetch of the items topic."""
        if len(batch):
            changes, bad = await self._decoded(batch)
            await self.turns.take(TURN)
            if changes.upserts:
                self.index.upsert(changes.upserts)
            if len(changes.removed):
                self.index.remove(changes.removed)
            self.bad_items.add(batch.partition, bad)
            if changes.upserts:
                self.on_items(fp64s(record.item_id.encode() for record in changes.upserts))
        self.items_next[batch.partition] = batch.next_offset

    @property
    def items_known(self) -> ItemsKnown:
        """Which items the index holds now."""
        return ItemsKnown(self._listed, _by_partition(self.items_next))

    async def refused(self, batch: RecordBatch) -> list[DeadLetter]:
        """The dead letters of a batch that is read again."""
        return (await self._decoded(batch))[1]

    async def _decoded(self, batch: RecordBatch) -> tuple[ItemChanges, list[DeadLetter]]:
        return await once_told(self.registry, lambda: self.decoder.decode_batch(batch))

    async def features_came(self, batch: RecordBatch) -> None:
        """One fetch of item-features: derived records, tombstones and markers of ticks.

        They wait for their tick; those before the first marker that a partition still has are older than any
        tick that is ranked at, and enter the index at once.
        """
        await self.turns.take(TURN)
        records: Records = {}
        for key, value in zip(batch.keys, batch.values, strict=True):
            if key == MARKER_KEY and value is not None:
                self._came(batch, records)
                self._mark(batch.partition, value)
                records = {}
            elif key is not None:
                records[key] = value
        self._came(batch, records)

    def _came(self, batch: RecordBatch, records: Records) -> None:
        records = records_of_today(records)
        self._check(batch, records)
        if self._markers[batch.partition] == NEVER:
            self._enter(records)
        else:
            self._staged[batch.partition].came(records)

    def _enter(self, records: Records) -> None:
        gone = [key for key, value in records.items() if value is None]
        there = [key for key, value in records.items() if value is not None]
        if there:
            derived = np.frombuffer(b"".join(records[key] or b"" for key in there), DERIVED)
            self.index.apply_derived(fps_of(there), derived)
        if gone:
            self.index.remove_derived(fps_of(gone))

    @staticmethod
    def _check(batch: RecordBatch, records: Records) -> None:
        sizes = {len(value) for value in records.values() if value is not None}
        if sizes - {DERIVED.itemsize} or {len(key) for key in records} - {FP_BYTES}:
            raise OperatorError(
                f"{batch.topic} partition {batch.partition}, before offset {batch.next_offset}: a record is "
                f"no item statistic of {DERIVED.itemsize} bytes; stop what else writes there, then rebuild "
                "into a new namespace (docs/operations.md)",
                ExitCode.TOPICS_WRONG,
            )

    def _mark(self, partition: int, marker: bytes) -> None:
        record = orjson.loads(marker)
        self._markers[partition] = max(self._markers[partition], record["tick"])
        self._as_of_ms[record["tick"]] = record["as_of_ms"]
        staged = self._staged[partition]
        staged.marked(record["tick"], record.get("positions", ()))
        oldest = staged.crowded()
        if oldest is not None and self.tick == NEVER:  # at a start: the log has thousands of them
            self._contained[partition] = oldest.positions
            self._enter(oldest.records)
        elif oldest is not None:
            staged.join(oldest.records)
        if min(self._markers) > self.tick:
            self._marked.set()

    async def keep_fresh(self) -> None:
        """Refresh the index at each complete tick, for ever."""
        while True:
            await self._marked.wait()
            self._marked.clear()
            tick = min(self._markers)
            if tick > self.tick:
                await self.refresh(tick, self._as_of_ms[tick])

    async def refresh(self, tick: int, as_of_ms: int) -> None:
        """Refresh in one turn, beside the loop, one refresh after the other; never back to an older tick."""
        async with self._one:
            if tick < self.tick:
                return
            await self.turns.take(TURN)
            await self.turns.beside(partial(self._refresh, tick, as_of_ms))
        self._as_of_ms = {t: at for t, at in self._as_of_ms.items() if t > tick}
        self._refreshed.set()
        log.debug("item index refreshed", tick=tick, items=len(self.index))

    def _refresh(self, tick: int, as_of_ms: int) -> None:
        for partition, staged in enumerate(self._staged):
            for one in staged.until(tick):
                self._contained[partition] = one.positions
                self._enter(one.records)
        positions = [min(of_one) for of_one in zip(*self._contained.values(), strict=True)]
        self.index.refresh(tick, as_of_ms)
        self.tick, self.as_of_ms, self.positions = tick, as_of_ms, positions
        self._listed = _by_partition(self.items_next)

    async def reached(self, tick: int) -> None:
        """Until the index has been refreshed at `tick` or later."""
        while self.tick < tick:
            self._refreshed.clear()
            await self._refreshed.wait()

    def live(self, fps: U64) -> NDArray[np.bool_]:
        """bool[k]: which items are live."""
        return self.index.lookup(fps) >= 0


def _by_partition(offsets: dict[int, int]) -> tuple[int, ...]:
    now = offsets.copy()  # a partition may come while this runs beside the loop
    return tuple(now.get(partition, 0) for partition in range(max(now, default=-1) + 1))
