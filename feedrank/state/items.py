"""`state verify --items` and `state repair --items`: item rows beside what all activities together say.

An item's row is a sum over everybody's activities, so all of them are applied again whatever items are asked
for. What user shards have sent and the item shard has not applied yet is added to the stored row: both sides
are then of the positions of the user shards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import orjson
from numpy.typing import NDArray

from feedrank.state.reconciling import Outcome, Reconciling
from models.fingerprint import fp64
from models.item_deltas import Deltas, decode
from streams.durable import POSITION_KEY, Position
from streams.group import demand_stopped
from streams.past_records import PastRecords
from topologies.item_keys import fps_of
from topologies.item_sums import TAG, add_deltas, of_items
from topologies.reconcile import Finding, Verdict, reconcile_item
from topologies.repair import mend_shard
from topologies.stored_rows import TopicRows

Bools = NDArray[np.bool_]
U64 = NDArray[np.uint64]
SHARE_PARTS = 1 << 20


@dataclass(frozen=True, slots=True)
class ChosenItems:
    """Which items: `fps` where they are named, else a share of all, drawn by `seed`."""

    fps: frozenset[int] | None
    share: float
    seed: int

    @classmethod
    def of(cls, items: list[str] | None, share: float, seed: int) -> ChosenItems:
        """Items by their ids, where there are any."""
        named = None if items is None else frozenset(fp64(item.encode()) for item in items)
        return cls(named, share, seed)

    def mask(self, fps: U64) -> Bools:
        """bool[k] of k fps."""
        if self.fps is not None:
            return np.isin(fps, np.array(sorted(self.fps), np.uint64))
        drawn = (fps ^ np.uint64(fp64(b"verify-%d" % self.seed))) % np.uint64(SHARE_PARTS)
        return np.asarray(drawn < self.share * SHARE_PARTS)

    def key(self, key: bytes) -> bool:
        """Of a tagged key."""
        return bool(self.mask(fps_of([key[len(TAG) :]]))[0])


@dataclass(frozen=True, slots=True)
class Sent:
    """Deltas that the item shard of a partition has not applied, and the offset after them."""

    deltas: list[Deltas]
    end: int


async def verify_items(opened: Reconciling, chosen: ChosenItems) -> Outcome:
    """Every difference of the chosen items. Raises OperatorError while workers are alive."""
    outcome, again = Outcome(), await _again(opened, chosen)
    for partition in range(opened.stored.partitions):
        rows = opened.stored.newest("item-rows", partition, chosen.key)
        position = rows.pop(POSITION_KEY, None)
        sent = _sent(opened, partition, position)
        _judge(opened, partition, _with(rows, sent, chosen.mask), again, outcome)
    _demand_stopped(opened)
    return outcome


async def repair_items(opened: Reconciling, chosen: ChosenItems) -> Outcome:
    """Write what is different. Deltas that were sent are applied to all rows of the partition on the way, so
    that each counts once. Raises OperatorError."""
    outcome, again = Outcome(), await _again(opened, chosen)
    for partition in range(opened.stored.partitions):

        async def mend(at: int = partition) -> tuple[Mapping[bytes, bytes | None], bytes | None]:
            return _mended(opened, at, chosen, again, outcome)

        outcome.mended += await mend_shard(opened.settings, opened.names, partition, mend, "item-rows")
    return outcome


def _mended(
    opened: Reconciling, partition: int, chosen: ChosenItems, again: Mapping[bytes, bytes], outcome: Outcome
) -> tuple[Mapping[bytes, bytes | None], bytes | None]:
    rows = opened.stored.newest("item-rows", partition, lambda key: True)
    position = rows.pop(POSITION_KEY, None)
    if position is None:
        return {}, None
    sent = _sent(opened, partition, position)
    _demand_stopped(opened)  # who starts from here on sends what no row here has
    applied = _with(rows, sent, lambda fps: np.ones(fps.size, np.bool_))
    found = _judge(opened, partition, {k: v for k, v in applied.items() if chosen.key(k)}, again, outcome)
    wrong = [TAG + one.id for one in found if one.verdict is Verdict.DIFFERENT]
    if not wrong:
        return {}, None
    mended: dict[bytes, bytes | None] = {k: v for k, v in applied.items() if rows.get(k) != v}
    mended |= {key: again.get(key) for key in wrong}
    return mended, orjson.dumps(orjson.loads(position) | {"position": sent.end})


async def _again(opened: Reconciling, chosen: ChosenItems) -> dict[bytes, bytes]:
    """Rows of the chosen items, of all that the user shards have applied."""
    _demand_stopped(opened)
    ends = {}
    for partition in range(opened.stored.partitions):
        position = opened.stored.newest("users", partition, lambda key: False).get(POSITION_KEY)
        if position is not None:
            ends[partition] = Position.decode(position).offset
    told: Callable[[int, int], None] = lambda done, total: opened.told("activities", done, total)  # noqa: E731
    return await opened.recomputing.item_rows(opened.starts, ends, chosen.mask, told)


def _sent(opened: Reconciling, partition: int, position: bytes | None) -> Sent:
    """A replay's disk has nothing that is not applied."""
    start = 0 if position is None else Position.decode(position).offset
    found = Sent([], start)
    if isinstance(opened.stored, TopicRows):
        with PastRecords(opened.settings.kafka, opened.names.item_deltas) as log:
            for record in log.of_partition(partition, start):
                value = record.value()
                found = Sent(found.deltas, (record.offset() or 0) + 1)
                found.deltas.extend([decode(value)] if isinstance(value, bytes) else [])
    return found


def _with(rows: dict[bytes, bytes], sent: Sent, wanted: Callable[[U64], Bools]) -> dict[bytes, bytes]:
    return add_deltas(rows, (of_items(one, wanted) for one in sent.deltas))


def _judge(
    opened: Reconciling,
    partition: int,
    stored: Mapping[bytes, bytes],
    again: Mapping[bytes, bytes],
    outcome: Outcome,
) -> list[Finding]:
    """Compare the items of one partition."""
    mine = {key for key in again if int(fps_of([key[len(TAG) :]])[0]) % opened.stored.partitions == partition}
    found = [
        reconcile_item(key[len(TAG) :], stored.get(key), again.get(key), not opened.lost)
        for key in sorted(stored.keys() | mine)
    ]
    outcome.verdicts.update(one.verdict for one in found)
    different = [one for one in found if one.verdict is not Verdict.SAME]
    outcome.findings += [replace(one, id=_name(opened, one.id)) for one in different]
    return different


def _name(opened: Reconciling, key: bytes) -> bytes:
    """The item's id while it is live, else its fingerprint in hexadecimal digits."""
    index = opened.recomputing.index
    slot = int(index.lookup(fps_of([key]))[0])
    return index.ids[slot].encode() if slot >= 0 else key.hex().encode()


def _demand_stopped(opened: Reconciling) -> None:
    if isinstance(opened.stored, TopicRows):
        demand_stopped(
            opened.settings.kafka, opened.names, "item rows cannot be told from what is on its way"
        )
