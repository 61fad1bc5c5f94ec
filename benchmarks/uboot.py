"""The U-Boot social stream: who reviews, tests and passes on which change next.

A query is one (actor, second) with all objects that the actor touched then. Candidates are all items of the
last 60 days that this actor had not touched before; the truth is never inserted (its coverage is reported).
State is the job's own, as of strictly earlier seconds. The first 60 % of time train, the next 10 % tune, the
rest tests.

Everything that happens to a commit carries the commit's second. So what an item's own statistics say is
whether the commit is over, not whether it is liked: models here see affinity, age and graph only (`FAIR`).
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import Figure
from benchmarks.place import Place
from benchmarks.quality import Queries, against, data_folder, queries
from feedrank.dataset.events import past_of
from feedrank.load import uboot
from feedrank.training.fit import Spec, train
from feedrank.training.report import probabilities
from models.candidates import Candidates
from models.evaluation.lists import ranked, recall, reciprocal_rank
from models.features import FEATURES, Planes
from models.policy import Policy
from models.score import RateLift
from models.verbs import Role
from streams.policy_file import read_policy
from topologies.history import History
from topologies.past import Past

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

DAY_MS = 86_400_000
POOL_MS = 60 * DAY_MS
TRAIN_UNTIL, TUNE_UNTIL = 0.6, 0.7
RECALL_K = 20
NEGATIVES = 60
"""Candidates that were not touched, drawn per query to train and tune on; the test has all."""

EVERY = {"train": 3, "valid": 4, "test": 1}
"""Every so many-th query is used: features of all would not fit into memory."""

SLICE = 8
HALF_LIVES_D = (7.0, 14.0, 30.0, 90.0, 365.0)
FRESH_D = (7.0, 30.0, 120.0)
FAIR = ("affinity", "similarity", "context", "fatigue", "social")
FAIR_MORE = ("age", "age_days", "age_rank", "similarity_rank")


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


def fair() -> NDArray[np.bool_]:
    """bool[F]: features that do not read an item's own statistics."""
    return np.array([f.family in FAIR or f.name in FAIR_MORE for f in FEATURES])


# -- baselines ----------------------------------------------------------------------------------------------


class Affinity:
    """Decayed counts of what an actor touched, by author and by topic, for several half-lives at once."""

    def __init__(self, stream: Stream) -> None:
        self.index = stream.history.index
        self.half_lives_ms = np.array(HALF_LIVES_D) * DAY_MS
        self._authors: defaultdict[bytes, dict[int, tuple[F64, int]]] = defaultdict(dict)
        self._topics: defaultdict[bytes, dict[int, tuple[F64, int]]] = defaultdict(dict)

    def touch(self, actor: bytes, slots: I64, at: int) -> None:
        """These items were touched."""
        for slot in slots.tolist():
            self._add(self._authors[actor], int(self.index.author[slot]), at)
            for topic in self.index.topics[slot].tolist():
                if topic >= 0:
                    self._add(self._topics[actor], topic, at)

    def _add(self, counts: dict[int, tuple[F64, int]], key: int, at: int) -> None:
        value, then = counts.get(key, (np.zeros(len(self.half_lives_ms)), at))
        counts[key] = value * np.exp2(-(at - then) / self.half_lives_ms) + 1.0, at

    def scores(self, one: Asked) -> dict[str, F64]:
        """Name -> float64[C] of every baseline."""
        age = (one.time_ms - self.index.created_ms[one.slots]) / DAY_MS
        author = self._of(self._authors[one.actor], self.index.author[one.slots][:, None], one.time_ms)
        topic = self._of(self._topics[one.actor], self.index.topics[one.slots], one.time_ms)
        found = {"recency": -age}
        for n, days in enumerate(HALF_LIVES_D):
            found[f"author {days:g} d"] = author[:, n] - age * 1e-6
            found[f"topic {days:g} d"] = topic[:, n] - age * 1e-6
            for fresh in FRESH_D:
                product = (author[:, n] + 0.1) * (topic[:, n] + 0.1) * np.exp2(-age / fresh)
                found[f"product {days:g} d, {fresh:g} d"] = product
        return found

    def _of(self, counts: dict[int, tuple[F64, int]], keys: NDArray[np.int32], at: int) -> F64:
        total = np.zeros((len(keys), len(self.half_lives_ms)))
        if not counts:
            return total
        known, place = np.unique(keys, return_inverse=True)
        values = np.zeros((len(known), len(self.half_lives_ms)))
        for row, key in zip(values, known.tolist(), strict=True):
            if key in counts:
                value, then = counts[key]
                row[:] = value * np.exp2(-(at - then) / self.half_lives_ms)
        return values[place.reshape(keys.shape)].sum(axis=1)


# -- the run ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Judged:
    """Per query: recall@20 and reciprocal rank by contender, who asked, whether the truth was in the pool."""

    recall: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    first: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    actor: list[bytes] = field(default_factory=list)
    covered: list[float] = field(default_factory=list)
    pool: list[int] = field(default_factory=list)

    def add(self, one: Asked, scores: dict[str, F64]) -> None:
        """Judge all contenders on one query."""
        none = np.zeros(len(one.fps), np.int64)
        wanted = np.array([float(one.wanted)])
        for name, score in scores.items():
            if not len(none):
                self.recall[name].append(0.0)
                self.first[name].append(0.0)
                continue
            lists = ranked(none, score, one.fps)
            self.recall[name].append(float(recall(lists, one.relevant, RECALL_K, wanted)[0]))
            self.first[name].append(float(reciprocal_rank(lists, one.relevant)[0]))
        self.actor.append(one.actor)
        self.covered.append(float(one.relevant.sum()) / one.wanted)
        self.pool.append(len(one.fps))

    @property
    def actors(self) -> I64:
        """int64[q]: actors by number."""
        found: I64 = np.unique(np.array(self.actor), return_inverse=True)[1].astype(np.int64)
        return found


def sampled(one: Asked, seed: int) -> NDArray[np.int64]:
    """Places of a query's rows to train on: all relevant ones, and some of the others."""
    others = np.flatnonzero(~one.relevant)
    drawn = np.random.default_rng(seed).permutation(others)[:NEGATIVES]
    return np.sort(np.concatenate([np.flatnonzero(one.relevant), drawn]))


def read(policy: Policy) -> Past:
    """Items, activities and derived follows."""
    folder = data_folder() / "uboot"
    events = uboot.events(folder / "social_events.jsonl.gz", None, folder / "derived_follows.tsv.gz")
    return past_of(events, policy.verbs)


def run(place: Place, until: float = 1.0) -> Iterator[Figure]:
    """Figures of all contenders."""
    del place
    policy = read_policy()
    stream = Stream(read(policy), policy)
    affinity, model = Affinity(stream), RateLift(policy)
    stream.touched = affinity.touch
    kept: list[Asked] = []
    tuned, tested = Judged(), Judged()
    contenders: Contenders | None = None
    for one in stream.asked(until=until):
        scores = affinity.scores(one)
        if one.split == "test":
            if contenders is None:
                contenders = Contenders.trained(kept)
            scores["default model"] = model.score(Planes(one.features[:, None].astype(np.float64)))[0]
            tested.add(one, scores | contenders.scores(one))
        else:
            if one.split == "valid":
                tuned.add(one, scores)
            if one.relevant.any():
                at = sampled(one, one.number)
                parts = (one.slots[at], one.fps[at], one.features[:, at], one.relevant[at])
                kept.append(Asked(one.number, one.time_ms, one.actor, one.split, *parts, one.wanted))
    yield from _figures(tuned, tested)


def _figures(tuned: Judged, tested: Judged) -> Iterator[Figure]:
    base = max(tuned.recall, key=lambda name: float(np.mean(tuned.recall[name])))
    print(f"  the best baseline on the tuning part: {base}", file=sys.stderr, flush=True)
    shown = [base, "recency", *(n for n in tested.recall if n not in tuned.recall)]
    for kind in ("author", "topic"):
        mine = [name for name in tuned.recall if name.startswith(kind)]
        shown.append(max(mine, key=lambda name: float(np.mean(tuned.recall[name]))))
    shown = list(dict.fromkeys(shown))
    note = f"pool of {np.median(tested.pool):.0f} (median), truth in it {np.mean(tested.covered):.1%}"
    yield Figure(
        "uboot coverage", "truth among the candidates", float(np.mean(tested.covered)), "share", note=note
    )
    actors = tested.actors
    for subject, values in (("recall@20", tested.recall), ("MRR", tested.first)):
        by_query = {name: np.array(values[name]) for name in shown}
        yield from against(f"uboot {subject} by query", by_query, base, actors)
        count = np.bincount(actors)
        by_actor = {n: np.bincount(actors, v) / count for n, v in by_query.items()}
        yield from against(f"uboot {subject} by actor", by_actor, base, np.arange(len(count)))


@dataclass(slots=True)
class Contenders:
    """Models trained on what came before the test."""

    models: dict[str, object]
    mask: NDArray[np.bool_]

    @classmethod
    def trained(cls, kept: list[Asked]) -> Contenders:
        """Linear and lambdarank on fair features."""
        actor = {name: n for n, name in enumerate(sorted({one.actor for one in kept}))}
        mask = fair()
        data: Queries = queries(
            (
                one.features * mask[:, None],
                one.number,
                one.time_ms,
                one.relevant,
                one.fps,
                actor[one.actor],
                one.split,
            )
            for one in kept
        )
        rows = data.data("uboot")
        models: dict[str, object] = {}
        for kind in ("linear", "lambdarank"):
            trained = train(rows, Spec(kind, "uboot", leaves=15, trees=200), lambda told: None)
            print(f"  {kind}: {trained.heads[0].told}", file=sys.stderr, flush=True)
            models[kind] = trained
        return cls(models, mask)

    def scores(self, one: Asked) -> dict[str, F64]:
        """Name -> float64[C]."""
        features = (one.features * self.mask[:, None]).astype(np.int32)
        n = len(one.fps)
        whole = (one.number, one.time_ms, 0)
        number, time_ms, cluster = (np.full(n, value, np.int64) for value in whole)
        rows = Queries(features, number, time_ms, one.relevant, one.fps, cluster, np.zeros(n, np.int8)).data(
            "q"
        )
        return {kind: next(iter(probabilities(m, rows).values())) for kind, m in self.models.items()}  # type: ignore[arg-type]
