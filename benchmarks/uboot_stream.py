"""The U-Boot social stream second by second, and its queries: what `benchmarks.uboot` asks.

A query is one (actor, second) with all objects that the actor touched then. Candidates are all items of the
last 60 days that this actor had not touched before; the truth is never inserted. State is the job's own, as
of strictly earlier seconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import data_folder
from feedrank.dataset.events import past_of
from feedrank.load import uboot
from models.candidates import Candidates
from models.policy import Policy
from models.verbs import Role
from topologies.history import History
from topologies.past import Past

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

DAY_MS = 86_400_000
POOL_MS = 60 * DAY_MS
TRAIN_UNTIL, TUNE_UNTIL = 0.6, 0.7
EVERY = {"train": 3, "valid": 4, "test": 1}
"""Every so many-th query is used: features of all would not fit into memory."""

SLICE = 8


@dataclass(slots=True)
class Asked:
    """One query: its pool as slots int64[C] with fps uint64[C], features int32[F, C], relevant bool[C];
    `wanted`: how many objects there were, in the pool or not."""

    number: int
    time_ms: int
    actor: bytes
    split: str
    slots: I64
    fps: U64
    features: NDArray[np.int32]
    relevant: NDArray[np.bool_]
    wanted: int


@dataclass
class Stream:
    """The stream second by second. `touched(actor, slots int64[k], time_ms)` hears of all that happened."""

    past: Past
    policy: Policy
    touched: Callable[[bytes, I64, int], None] = lambda actor, slots, at: None
    history: History = field(init=False)
    _touched: defaultdict[bytes, set[int]] = field(default_factory=lambda: defaultdict(set))

    def __post_init__(self) -> None:
        self.history = History(self.policy.verbs, 1_000, 150_000)
        part = self.past.partitions[0]
        self._times = part.event_ms
        role = self.policy.verbs.role[part.verb]
        self._counts = (role == Role.WEAK) | (role == Role.STRONG)

    def asked(self, every: dict[str, int] = EVERY, until: float = 1.0) -> Iterator[Asked]:
        """The queries, in order of time. `until`: share of the time to go through."""
        part, times = self.past.partitions[0], self._times
        seconds, starts = np.unique(times, return_index=True)
        ends = np.append(starts[1:], len(times))
        first, last = float(times[self._counts].min()), float(times.max())
        created = np.array([change.time_ms for change in self.past.items])
        put, number = 0, 0
        for at, start, end in zip(seconds.tolist(), starts.tolist(), ends.tolist(), strict=True):
            share = (at - first) / (last - first)
            if share > until:
                return
            split = "train" if share < TRAIN_UNTIL else "valid" if share < TUNE_UNTIL else "test"
            before = int(np.searchsorted(created, at, "left"))
            self._put(put, before)
            queries_now = self._queries(start, end)
            if queries_now:
                chosen = [one for n, one in enumerate(queries_now) if (number + n) % every[split] == 0]
                numbers = [number + n for n in range(len(queries_now)) if (number + n) % every[split] == 0]
                yield from self._answer(at, split, chosen, numbers, created, before)
                number += len(queries_now)
            put = int(np.searchsorted(created, at, "right"))
            self._put(before, put)
            self.history.apply(part.cut(start, end))
            for actor, objects in queries_now:
                self._touched[actor].update(objects)
                known = self.history.index.lookup(np.array(objects, np.uint64)).astype(np.int64)
                self.touched(actor, known[known >= 0], at)

    def _put(self, start: int, stop: int) -> None:
        records = [change.record for change in self.past.items[start:stop]]
        self.history.put(record for record in records if record is not None)

    def _queries(self, start: int, end: int) -> list[tuple[bytes, list[int]]]:
        part = self.past.partitions[0]
        by_actor: defaultdict[bytes, list[int]] = defaultdict(list)
        for i in range(start, end):
            if self._counts[i]:
                by_actor[part.keys[i]].append(int(part.object_fp[i]))
        return sorted((actor, sorted(set(objects))) for actor, objects in by_actor.items())

    def _answer(
        self,
        at: int,
        split: str,
        asked: Sequence[tuple[bytes, list[int]]],
        numbers: list[int],
        created: I64,
        before: int,
    ) -> Iterator[Asked]:
        if not asked:
            return
        self.history.close_ticks_at(at, refresh=False)
        first = int(np.searchsorted(created, at - POOL_MS, "left"))
        pool = np.array([change.fp for change in self.past.items[first:before]], np.uint64)
        slots = self.history.index.lookup(pool).astype(np.int64)
        for start in range(0, len(asked), SLICE):
            some = asked[start : start + SLICE]
            kept = [~np.isin(pool, np.array(sorted(self._touched[actor]), np.uint64)) for actor, _ in some]
            planes = self._features([actor for actor, _ in some], [slots[keep] for keep in kept], at)
            for n, ((actor, objects), keep) in enumerate(zip(some, kept, strict=True)):
                fps = pool[keep]
                relevant = np.isin(fps, np.array(objects, np.uint64))
                features = planes[:, n, : len(fps)].astype(np.int32)
                yield Asked(
                    numbers[start + n], at, actor, split, slots[keep], fps, features, relevant, len(objects)
                )

    def _features(self, actors: list[bytes], slots: list[I64], at: int) -> F64:
        width = max(1, *map(len, slots))
        item = np.full((len(actors), width), -1, np.int32)
        for row, some in zip(item, slots, strict=True):
            row[: len(some)] = some
        candidates = Candidates(item, (item >= 0).astype(np.uint16), {})
        return self.history.features(self.history.batch(actors), candidates, at)


def read(policy: Policy) -> Past:
    """Items, activities and derived follows."""
    folder = data_folder() / "uboot"
    events = uboot.events(folder / "social_events.jsonl.gz", None, folder / "derived_follows.tsv.gz")
    return past_of(events, policy.verbs)
