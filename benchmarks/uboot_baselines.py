"""Baselines of the U-Boot stream, and how contenders are judged: recall@20 and reciprocal rank by query."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.uboot_stream import DAY_MS, F64, I64, Asked, Stream
from models.evaluation.lists import ranked, recall, reciprocal_rank

RECALL_K = 20
HALF_LIVES_D = (7.0, 14.0, 30.0, 90.0, 365.0)
FRESH_D = (7.0, 30.0, 120.0)


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
        summed: F64 = values[place.reshape(keys.shape)].sum(axis=1)
        return summed


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
