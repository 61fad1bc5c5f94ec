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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import Figure
from benchmarks.place import Place
from benchmarks.quality import Queries, against, queries
from benchmarks.uboot_baselines import Affinity, Judged
from benchmarks.uboot_stream import F64, Asked, Stream, read
from feedrank.training.fit import Spec, Trained, train
from feedrank.training.report import probabilities
from models.features import FEATURES, Planes
from models.score import RateLift
from streams.policy_file import read_policy

NEGATIVES = 60
"""Candidates that were not touched, drawn per query to train and tune on; the test has all."""

FAIR = ("affinity", "similarity", "context", "fatigue", "social")
FAIR_MORE = ("age", "age_days", "age_rank", "similarity_rank")


def fair() -> NDArray[np.bool_]:
    """bool[F]: features that do not read an item's own statistics."""
    return np.array([f.family in FAIR or f.name in FAIR_MORE for f in FEATURES])


def sampled(one: Asked, seed: int) -> NDArray[np.int64]:
    """Places of a query's rows to train on: all relevant ones, and some of the others."""
    others = np.flatnonzero(~one.relevant)
    drawn = np.random.default_rng(seed).permutation(others)[:NEGATIVES]
    return np.sort(np.concatenate([np.flatnonzero(one.relevant), drawn]))


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
    note = f"pool of {np.median(tested.pool):.0f} (median), truth in it {np.mean(tested.covered):.1%}"
    yield Figure(
        "uboot coverage", "truth among the candidates", float(np.mean(tested.covered)), "share", note=note
    )
    for by_actor, told in ((False, "by query"), (True, "by actor")):
        tuned_recall = _means(tuned.recall, tuned.actors, by_actor)
        base = max(tuned_recall, key=tuned_recall.__getitem__)
        print(f"  the best baseline on the tuning part {told}: {base}", file=sys.stderr, flush=True)
        shown = [base, "recency", *(n for n in tested.recall if n not in tuned.recall)]
        for kind in ("author", "topic"):
            mine = [name for name in tuned_recall if name.startswith(kind)]
            shown.append(max(mine, key=tuned_recall.__getitem__))
        shown = list(dict.fromkeys(shown))
        for subject, values in (("recall@20", tested.recall), ("MRR", tested.first)):
            judged, cluster = _judged(values, tested.actors, by_actor)
            name = f"uboot {subject} {told}"
            yield from against(name, {n: judged[n] for n in shown}, base, cluster)
            test_means = {n: float(judged[n].mean()) for n in tuned.recall}
            best = max(test_means, key=test_means.__getitem__)
            if best != base:
                yield from _beside(name, judged, [n for n in shown if n not in tuned.recall], best, cluster)


def _beside(
    subject: str, values: dict[str, F64], models: list[str], best: str, cluster: NDArray[np.int64]
) -> Iterator[Figure]:
    """The models beside the baseline that turned out best on the test: nobody could have chosen it before."""
    some = {name: values[name] for name in (best, *models)}
    for figure in against(f"{subject}, best in hindsight", some, best, cluster):
        if figure.unit == "paired" or figure.subject == best:
            yield figure


def _judged(
    values: Mapping[str, list[float]], actors: NDArray[np.int64], by_actor: bool
) -> tuple[dict[str, F64], NDArray[np.int64]]:
    """Per contender float64 of its queries, or of actors' means; and the clusters of the bootstrap."""
    by_query = {name: np.array(value) for name, value in values.items()}
    if not by_actor:
        return by_query, actors
    count = np.bincount(actors)
    return {n: np.bincount(actors, v) / count for n, v in by_query.items()}, np.arange(len(count))


def _means(values: Mapping[str, list[float]], actors: NDArray[np.int64], by_actor: bool) -> dict[str, float]:
    return {name: float(value.mean()) for name, value in _judged(values, actors, by_actor)[0].items()}


@dataclass(slots=True)
class Contenders:
    """Models trained on what came before the test."""

    models: dict[str, Trained]
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
        models: dict[str, Trained] = {}
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
        return {kind: next(iter(probabilities(m, rows).values())) for kind, m in self.models.items()}
