"""CPU per activity of rows, seen pages and item deltas, without decode.

`python benchmarks/rows.py [--profile]`: 200,000 users and 100,000 items, both zipf 1.0; a line of JSON per
slice size, or where the time goes.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.arena import Arena
from models.columns import ActivityColumns
from models.effects import Effects
from models.graph import Graphs
from models.item_deltas import ItemDeltas
from models.seen import SeenPages
from models.users import USER_ROW, apply, needs_items, plan
from models.verbs import Role, Verb, VerbTable

USERS, ITEMS = 200_000, 100_000
RECORDS, WARM_UP = 1_200_000, 400_000
CHECKPOINT_RECORDS = 200_000
SLICES = (1_000, 2_000, 4_000)
GOAL_US = 1.2
T0_MS = 1_700_000_000_000
SPAN_MS = 6 * 3_600_000
VERBS = VerbTable(
    [
        Verb("impression", Role.EXPOSURE),
        Verb("click", Role.WEAK, affinity=2),
        Verb("like", Role.STRONG, affinity=8, makes_due=True),
        Verb("hide", Role.NEGATIVE, affinity=-8, makes_due=True),
        Verb("undo", Role.UNDO, makes_due=True),
    ]
)
SHARES = (0.70, 0.20, 0.08, 0.015, 0.005)


@dataclass
class Attributes:
    known: NDArray[np.bool_]
    author_fp32: NDArray[np.uint32]
    topic_fp32: NDArray[np.uint32]
    embedding: NDArray[np.int8]


class Items:
    """Item number = fp: stands in for the index, whose look-up is measured with the index."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.author = rng.integers(1, 5_000, ITEMS).astype(np.uint32)
        self.topics = rng.integers(1, 60, (ITEMS, 4)).astype(np.uint32)
        self.embedding = rng.integers(-127, 128, (ITEMS, 64)).astype(np.int8)

    def lookup(self, fps: NDArray[np.uint64]) -> NDArray[np.int32]:
        return (fps % np.uint64(ITEMS)).astype(np.int32)

    def attributes(self, fps: NDArray[np.uint64]) -> Attributes:
        i = self.lookup(fps)
        return Attributes(np.ones(i.size, np.bool_), self.author[i], self.topics[i], self.embedding[i])


def zipf(rng: np.random.Generator, count: int, size: int) -> NDArray[np.int64]:
    weights = 1 / np.arange(1, count + 1)
    return np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(size))


def stream() -> ActivityColumns:
    rng, n = np.random.default_rng(1), WARM_UP + RECORDS
    event_ms = T0_MS + np.arange(n) * SPAN_MS // n - rng.integers(0, 30_000, n)
    verb = rng.choice(len(SHARES), n, p=SHARES).astype(np.int16)
    undo = verb == 4
    return ActivityColumns(
        keys=[b"user-%d" % u for u in rng.permutation(USERS)[zipf(rng, USERS, n)].tolist()],
        offset=np.arange(n),
        record_ms=event_ms,
        event_ms=event_ms,
        activity_fp=rng.integers(1, 1 << 63, n).astype(np.uint64),
        object_fp=(zipf(rng, ITEMS, n).astype(np.uint64) * np.uint64(11_400_714_819_323_198_485)),
        verb=verb,
        target=np.zeros(n, np.int8),
        dwell_ms=np.where(verb == 1, rng.integers(0, 60_000, n), 0),
        position=rng.integers(0, 25, n).astype(np.int16),
        slate_fp=np.zeros(n, np.uint64),
        undone_verb=np.where(undo, 2, -1).astype(np.int16),
        undone_ms=np.where(undo, event_ms - 60_000, 0),
    )


class Shard:
    """One partition's state, as the job wires it."""

    def __init__(self) -> None:
        self.arena, self.seen, self.graphs = Arena(USER_ROW, b"u", 1 << 20), SeenPages(1 << 20), Graphs()
        self.deltas, self.items = ItemDeltas(), Items()
        self.records = 0
        self.arena.insert(b"user-%d" % u for u in range(USERS))  # as after a restart: memory is there already
        self.arena.rows[:USERS]["newest_ms"] = 1

    def step(self, columns: ActivityColumns) -> None:
        arena = self.arena
        slots, missing = arena.lookup(columns.keys)
        if missing.size:
            slots[missing] = arena.insert([columns.keys[i] for i in missing.tolist()])
        planned = plan(arena.rows, slots, columns, VERBS)
        assert not needs_items(arena.rows, planned, self.items)
        applied = apply(arena.rows, planned, self.items)
        arena.touch(applied.users)
        self.seen.apply(
            arena.rows, *exposures(columns, applied.effects, applied.groups.order, applied.groups.slot)
        )
        self.graphs.apply(columns, applied.effects, applied.groups, VERBS)
        self.deltas.add(columns, applied.effects, applied.duplicate, arena.fp[slots])
        self.records += len(columns)
        if self.records % CHECKPOINT_RECORDS == 0:
            self.deltas.drain(4, 0, 0, 0)


def exposures(
    columns: ActivityColumns, effects: Effects, order: NDArray[np.int64], slot: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_]]:
    shown = np.flatnonzero(effects.role[order] == Role.EXPOSURE)
    record = order[shown]
    return slot[shown], columns.object_fp[record], effects.at_ms[record] // 86_400_000, effects.undo[record]


def run(shard: Shard, slices: list[ActivityColumns]) -> float:
    """CPU seconds."""
    started = time.process_time()
    for part in slices:
        shard.step(part)
    return time.process_time() - started


def fresh_keys(columns: ActivityColumns) -> ActivityColumns:
    """Keys as decode makes them: new bytes objects without a cached hash."""
    return ActivityColumns(
        [bytes(bytearray(k)) for k in columns.keys],
        *(getattr(columns, name) for name in list(ActivityColumns.__dataclass_fields__)[1:]),
    )


def main(profile: bool) -> None:
    columns = stream()
    for size in SLICES:
        shard = Shard()
        run(shard, list(columns.cut(0, WARM_UP).slices(size)))
        slices = [fresh_keys(p) for p in columns.cut(WARM_UP, len(columns)).slices(size)]
        measured: Callable[[], float] = lambda s=shard, p=slices: run(s, p)  # type: ignore[misc]  # noqa: E731
        if profile:
            profiler = cProfile.Profile()
            profiler.runcall(measured)
            pstats.Stats(profiler).sort_stats("tottime").print_stats(28)
            continue
        value = measured() / RECORDS * 1e6
        line = {"name": "rows", "subject": f"apply and deltas, slices of {size}", "value": round(value, 3)}
        print(
            json.dumps(line | {"unit": "us/activity", "goal": GOAL_US, "met": value <= GOAL_US}), flush=True
        )


if __name__ == "__main__":
    main("--profile" in sys.argv[1:])
