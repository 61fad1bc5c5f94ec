"""Random streams of activities as columns, and a runner without Kafka, for tests of the shards."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.columns import ActivityColumns
from models.fingerprint import fp64s
from models.item_columns import ItemRecord
from models.item_index import ItemIndex
from models.verbs import GraphAct, Role, Verb, VerbTable
from streams.durable import POSITION_KEY, Cut
from topologies.user_rows import UserRows
from topologies.user_shard import UserShard
from wire.names import Namespace

NAMES = Namespace("test")
VERBS = VerbTable(
    [
        Verb("impression", Role.EXPOSURE),
        Verb("click", Role.WEAK, affinity=1),
        Verb("like", Role.STRONG, affinity=4, makes_due=True),
        Verb("hide", Role.NEGATIVE, affinity=-8, makes_due=True),
        Verb("follow", Role.GRAPH, makes_due=True, graph=GraphAct.FOLLOW),
        Verb("undo", Role.UNDO),
    ]
)
ITEMS = 40


def item_index() -> ItemIndex:
    """40 items by 7 authors on 5 topics."""
    index = ItemIndex(10_000)
    rng = np.random.default_rng(1)
    index.upsert(
        ItemRecord(
            f"item-{i}",
            f"author-{i % 7}",
            i,
            (f"topic-{i % 5}",),
            rng.integers(-127, 128, 64).astype(np.int8),
        )
        for i in range(ITEMS)
    )
    return index


def activities(n: int, users: int, seed: int, span_ms: int = 10 * 86_400_000) -> ActivityColumns:
    """n activities of some users: retries, late ones, undos, follows, all from one seed."""
    rng = np.random.default_rng(seed)
    keys = [b"user-%d" % u for u in rng.zipf(1.4, n) % users]
    times = np.sort(rng.integers(1_600_000_000_000, 1_600_000_000_000 + span_ms, n))
    times -= (rng.random(n) < 0.1) * rng.integers(0, span_ms // 2, n)
    verb = rng.choice(6, n, p=[0.45, 0.25, 0.15, 0.05, 0.05, 0.05]).astype(np.int16)
    ids = [b"activity-%d" % i for i in range(n)]
    for i in np.flatnonzero(rng.random(n) < 0.05).tolist():
        ids[i] = ids[max(0, i - int(rng.integers(1, 20)))]
    objects = [
        (b"author-%d" % (i % 7) if v == 4 else b"item-%d" % i)
        for i, v in zip(rng.integers(0, ITEMS, n).tolist(), verb.tolist(), strict=True)
    ]
    undo = verb == 5
    return ActivityColumns(
        keys=keys,
        offset=np.arange(n),
        record_ms=times,
        event_ms=times,
        activity_fp=fp64s(ids),
        object_fp=fp64s(objects),
        verb=verb,
        target=np.zeros(n, np.int8),
        dwell_ms=rng.integers(0, 60_000, n) * (rng.random(n) < 0.2),
        position=rng.integers(-1, 30, n).astype(np.int16),
        slate_fp=np.zeros(n, np.uint64),
        undone_verb=np.where(undo, rng.integers(0, 5, n), -1).astype(np.int16),
        undone_ms=np.where(undo, times - rng.integers(0, 86_400_000, n), 0),
    )


@dataclass
class Durable:
    """What survives a crash: the changelog (last value by key) and RocksDB, and the messages committed."""

    changelog: dict[bytes, bytes | None] = field(default_factory=dict)
    rocks: dict[bytes, bytes] = field(default_factory=dict)
    deltas: list[bytes] = field(default_factory=list)
    position: int = 0

    def commit(self, cut: Cut) -> None:
        self.changelog.update(cut.rows)
        self.deltas += [m.value for m in cut.messages if m.topic == NAMES.item_deltas and m.value]
        self.position = cut.position

    def rows(self) -> dict[bytes, bytes | None]:
        """All rows but the position record."""
        return {key: value for key, value in self.changelog.items() if key != POSITION_KEY}


def shard(index: ItemIndex, rows_max: int = 100_000, resident: bool = True) -> UserShard:
    return UserShard(NAMES, 0, 4, VERBS, index, 10_000, UserRows(rows_max, resident))


def make_resident(state: UserShard, keys: list[bytes], durable: Durable) -> None:
    """What the live worker does with RocksDB."""
    read: dict[bytes, bytes | None] = {}
    wanted = state.rows.make_resident(keys)
    while wanted:
        read |= {key: durable.rocks.get(key) for key in wanted}
        wanted = state.rows.make_resident(keys, read)


def feed(state: UserShard, part: ActivityColumns, durable: Durable) -> None:
    make_resident(state, part.keys, durable)
    state.apply(part, state.plan(part), [], int(part.offset[-1]) + 1)


def checkpoint(state: UserShard, durable: Durable) -> None:
    cut = state.cut(1)
    if not cut.nothing:
        durable.commit(cut)
        state.committed(cut)


def flush(state: UserShard, durable: Durable, rows_max: int = 1_000) -> None:
    """One slice to RocksDB."""
    rows = state.flush_slice(rows_max)
    durable.rocks.update({key: value for key, value in rows if value is not None})
    state.flushed(rows)
