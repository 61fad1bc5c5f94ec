"""From labelled impressions and rebuilt slates to rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedrank.dataset.table import LABELS, ORIGINS
from models.labels import SPLITS, Labelled, label_windows, split_by_time
from models.policy import Policy
from topologies.history import History
from topologies.past import Past, Served, Slate, by_slate, of_served, of_shown
from topologies.rebuild import Rebuilt, compared, rebuild

I64 = NDArray[np.int64]
Rows = tuple[dict[str, Any], NDArray[np.int32]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a data set is made of. `candidates`: also those that were not shown. `propensity`: of impressions
    by (user fp, slate fp), where no served log tells it. `shares`: of valid and test."""

    past: Past
    labelled: Labelled
    policy: Policy
    namespace: str
    tick_ms: int
    items_max: int
    candidates: bool = False
    propensity: dict[tuple[int, int], float] = field(default_factory=dict)
    window_s: int | None = None
    shares: tuple[float, float] = (0.15, 0.15)


@dataclass(slots=True)
class _Slates:
    """Slates with the places of their impressions in `labelled`."""

    slates: list[Slate] = field(default_factory=list)
    shown: dict[int, list[int]] = field(default_factory=dict)
    """By id of the slate object."""

    def add(self, slate: Slate, places: list[int]) -> None:
        self.slates.append(slate)
        self.shown[id(slate)] = places


def rows(wanted: Wanted, counts: Counter[str], progress: Callable[[int, int], None]) -> Iterator[Rows]:
    """Rows slate by slate, in order of time; `progress(done, all)` after each."""
    slates = _from_served(wanted, counts) if wanted.past.served else _from_shown(wanted)
    history = History(wanted.policy.verbs, wanted.tick_ms, wanted.items_max)
    gap_ms = int(label_windows(wanted.policy.verbs, wanted.window_s).max())
    places = np.array(sorted(place for some in slates.shown.values() for place in some), np.int64)
    split = np.zeros(len(wanted.labelled), np.int8)
    split[places] = split_by_time(wanted.labelled.time_ms[places], gap_ms, *wanted.shares)
    verbs = wanted.policy.verbs
    marks = _Marks(split, wanted.labelled.by_role(verbs), wanted.labelled.value(verbs))
    done = rebuild(wanted.past, history, wanted.policy, slates.slates, counts)
    for number, rebuilt in enumerate(done):
        made = _Rows(wanted, rebuilt, slates.shown[id(rebuilt.slate)], marks, counts).make(number)
        progress(number + 1, len(slates.slates))
        if made is not None:
            yield made


def _from_served(wanted: Wanted, counts: Counter[str]) -> _Slates:
    issued = by_slate(wanted.past.served, wanted.namespace)
    found, labelled = _Slates(), wanted.labelled
    groups: defaultdict[int, list[int]] = defaultdict(list)
    records: dict[int, Served] = {}
    slates = zip(labelled.user_fp.tolist(), labelled.slate_fp.tolist(), strict=True)
    for place, (user, slate) in enumerate(slates):
        served = issued.get((user, slate))
        if served is None:
            counts["impressions of a slate nobody issued" if slate else "impressions without a slate"] += 1
            continue
        if served.policy != wanted.policy.version:
            counts[f"impressions served under another policy ({served.policy})"] += 1
            continue
        groups[id(served)].append(place)
        records[id(served)] = served
    for key, places in groups.items():
        found.add(of_served(records[key]), places)
    return found


def _from_shown(wanted: Wanted) -> _Slates:
    """What was shown together: one slate id, or, without ids, one user at one time."""
    labelled, groups = wanted.labelled, defaultdict[tuple[int, int], list[int]](list)
    for place in range(len(labelled)):
        user, slate = int(labelled.user_fp[place]), int(labelled.slate_fp[place])
        groups[user, slate or int(labelled.time_ms[place])].append(place)
    places = list(groups.values())
    firsts = [some[0] for some in places]
    made = of_shown(
        [labelled.user[first] for first in firsts],
        [int(labelled.time_ms[first]) for first in firsts],
        [labelled.item_fp[some] for some in places],
        wanted.past.partitions[0].record_ms,
        wanted.tick_ms,
    )
    found = _Slates()
    for one, some in zip(made, places, strict=True):
        found.add(one, some)
    return found


@dataclass(frozen=True, slots=True)
class _Marks:
    """By impression: split int8[n], roles int8[3, n], value float64[n]."""

    split: NDArray[np.int8]
    roles: NDArray[np.int8]
    value: NDArray[np.float64]


@dataclass(slots=True)
class _Rows:
    wanted: Wanted
    rebuilt: Rebuilt
    shown: list[int]
    marks: _Marks
    counts: Counter[str]

    def make(self, number: int) -> Rows | None:
        """Rows of one slate; None where none is left."""
        served = self.rebuilt.slate.served
        if served is not None:
            compared(self.rebuilt, served, self.counts)
        at = {fp: place for place, fp in enumerate(self.rebuilt.fps.tolist())}
        fps = self.wanted.labelled.item_fp[self.shown].tolist()
        kept = [(place, at[fp]) for place, fp in zip(self.shown, fps, strict=True) if fp in at]
        self.counts["impressions of items that were no candidates when rebuilt"] += len(fps) - len(kept)
        if not kept:
            return None
        candidate = np.array([c for _, c in kept], np.int64)
        impression = np.array([p for p, _ in kept], np.int64)
        if self.wanted.candidates:
            others = np.setdiff1d(np.arange(len(self.rebuilt.fps)), candidate)
            candidate = np.concatenate([candidate, others])
            impression = np.concatenate([impression, np.full(len(others), -1)])
        self.counts["rows"] += len(candidate)
        self.counts["rows not shown"] += int((impression < 0).sum())
        features, logged = self._features(candidate)
        columns = self._columns(number, candidate, impression)
        columns["origin"] = [ORIGINS[one] for one in logged.astype(int).tolist()]
        return columns, features

    def _features(self, candidate: I64) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """What was logged wins over what was rebuilt: it is what the ranking saw."""
        features = self.rebuilt.features[:, candidate].copy()
        logged = np.zeros(len(candidate), np.bool_)
        served = self.rebuilt.slate.served
        if served is not None and len(served.featured):
            column = {fp: k for k, fp in enumerate(served.fps[served.featured].tolist())}
            for place, fp in enumerate(self.rebuilt.fps[candidate].tolist()):
                if fp in column:
                    features[:, place], logged[place] = served.logged[:, column[fp]], True
        return features, logged

    def _columns(self, number: int, candidate: I64, impression: I64) -> dict[str, Any]:
        labelled, slate, count = self.wanted.labelled, self.rebuilt.slate, len(candidate)
        shown = impression >= 0
        first = self.shown[0]
        time_ms = np.where(shown, labelled.time_ms[impression], labelled.time_ms[first])
        columns: dict[str, Any] = {
            "slate": np.full(count, number),
            "user": [slate.user.decode()] * count,
            "item": [self.rebuilt.ids[c] for c in candidate.tolist()],
            "author": [self.rebuilt.authors[c] for c in candidate.tolist()],
            "topic": [self.rebuilt.topics[c] for c in candidate.tolist()],
            "time_ms": time_ms,
            "as_of_ms": np.full(count, slate.as_of_ms),
            "shown": shown,
            "eligible": self.rebuilt.eligible[candidate],
            "position": np.where(shown, labelled.position[impression], -1),
            "propensity": self._propensity(candidate, shown),
            **self._places(candidate),
            "sources": self.rebuilt.sources[candidate].astype(np.int32),
            "policy": [slate.served.policy if slate.served else ""] * count,
            "model": [slate.served.model if slate.served else ""] * count,
            "value": np.where(shown, self.marks.value[impression], 0.0),
            "dwell_ms": np.where(shown, labelled.dwell_ms[impression], 0),
            "split": [SPLITS[self.marks.split[first]]] * count,
        }
        for name, row in zip(LABELS, self.marks.roles[:, impression], strict=True):
            columns[name] = np.where(shown, row, 0).astype(np.int8)
        return columns

    def _places(self, candidate: I64) -> dict[str, I64]:
        """Places in the feed as it was made, and how it was drawn, where a served log tells."""
        served, count = self.rebuilt.slate.served, len(candidate)
        if served is None:
            return {"place": np.full(count, -1), "slate_slots": np.zeros(count, np.int64),
                    "slate_pool": np.zeros(count, np.int64)}  # fmt: skip
        at = {fp: n for n, fp in enumerate(served.fps.tolist())}
        place = np.array([at.get(fp, -1) for fp in self.rebuilt.fps[candidate].tolist()], np.int64)
        slots, pool = (np.full(count, one) for one in served.slate)
        return {"place": place, "slate_slots": slots, "slate_pool": pool}

    def _propensity(self, candidate: I64, shown: NDArray[np.bool_]) -> NDArray[np.float64]:
        served, found = self.rebuilt.slate.served, np.full(len(candidate), np.nan)
        if served is not None:
            by_fp = dict(zip(served.fps.tolist(), served.propensity.tolist(), strict=True))
            fps = self.rebuilt.fps[candidate].tolist()
            return np.array([by_fp.get(fp, np.nan) for fp in fps])
        if self.wanted.propensity:
            labelled, first = self.wanted.labelled, self.shown[0]
            key = int(labelled.user_fp[first]), int(labelled.slate_fp[first])
            found[shown] = self.wanted.propensity.get(key, np.nan)
        return found
