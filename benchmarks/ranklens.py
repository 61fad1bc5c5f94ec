"""RankLens: rankings of 24 movies and clicks, the public set that Metarank publishes its NDCG on.

The first 7,054 rankings with a click train, the next 1,719 test, by time. State is the job's, as of strictly
before a ranking; a click is known from its own time on (5 s later). Ties break by hash of the item.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import Figure
from benchmarks.place import Place
from benchmarks.quality import Queries, against, data_folder, learned, queries
from feedrank.dataset.events import past_of
from feedrank.load import ranklens
from models.evaluation.bootstrap import mean
from models.evaluation.lists import ndcg, ranked
from models.features import Planes
from models.fingerprint import fp64
from models.policy import Policy
from models.score import RateLift
from streams.policy_file import read_policy
from topologies.history import History
from topologies.past import Past, of_shown
from topologies.rebuild import rebuild

F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]

TRAINED, TESTED = 7_054, 1_719
TUNED = 0.15
PUBLISHED = 0.598
TICK_MS = 1
NDCG_K = 10
LEAVES = 7
CTR = "prequential CTR"
PRIOR_RATE = 0.2
PRIOR_TRIALS = (5.0, 10.0, 20.0, 40.0, 80.0)


def rankings(past: Past, policy: Policy) -> dict[tuple[int, int], tuple[bytes, int, list[int], set[int]]]:
    """(user fp, slate fp) -> user, time, items shown in order of time, items clicked."""
    part, code = past.partitions[0], policy.verbs.code
    found: dict[tuple[int, int], tuple[bytes, int, list[int], set[int]]] = {}
    columns = (
        part.keys,
        part.slate_fp.tolist(),
        part.object_fp.tolist(),
        part.event_ms.tolist(),
        part.verb.tolist(),
    )
    for user, slate, item, at, verb in zip(*columns, strict=True):
        key = fp64(user), slate
        if verb == code["impression"]:
            found.setdefault(key, (user, at, [], set()))[2].append(item)
        else:
            found[key][3].add(item)
    return found


def read(policy: Policy, lines: int | None = None) -> Past:
    """The file, or its first lines."""
    events = ranklens.events(data_folder() / "ranklens" / "events.jsonl.gz")
    return past_of(events if lines is None else islice(events, lines), policy.verbs)


def queries_of(past: Past, policy: Policy, limit: int | None = None) -> Queries:
    """Rankings with a click as queries with the job's features. `limit`: only the first so many."""
    every = sorted(rankings(past, policy).values(), key=lambda one: one[1])
    clicked = [one for one in every if one[3]][: limit or TRAINED + TESTED]
    part = past.partitions[0]
    slates = of_shown(
        [one[0] for one in clicked],
        [one[1] for one in clicked],
        [np.array(one[2], np.uint64) for one in clicked],
        part.record_ms,
        TICK_MS,
    )
    number = {id(slate): n for n, slate in enumerate(slates)}
    train_end = min(TRAINED, len(clicked))

    def parts() -> Iterator[tuple[NDArray[np.int32], int, int, NDArray[np.bool_], U64, int, str]]:
        for one in rebuild(past, History(policy.verbs, TICK_MS, 20_000), policy, slates, Counter()):
            n = number[id(one.slate)]
            relevant = np.isin(one.fps, np.array(sorted(clicked[n][3]), np.uint64))
            split = "test" if n >= train_end else "valid" if n >= train_end * (1 - TUNED) else "train"
            yield one.features, n, one.slate.as_of_ms, relevant, one.fps, n, split

    return queries(parts())


def click_through(past: Past, data: Queries, policy: Policy, trials: float) -> F64:
    """float64[n]: click-through per item so far, smoothed by `trials` at PRIOR_RATE."""
    part, impression = past.partitions[0], policy.verbs.code["impression"]
    order = np.argsort(data.time_ms, kind="stable")
    shown: Counter[int] = Counter()
    clicks: Counter[int] = Counter()
    every = list(zip(part.object_fp.tolist(), part.verb.tolist(), part.event_ms.tolist(), strict=True))
    score, at = np.empty(len(order)), 0
    fps, times = data.fp.tolist(), data.time_ms.tolist()
    for row in order.tolist():
        while at < len(every) and every[at][2] < times[row]:
            item, verb, _ = every[at]
            (shown if verb == impression else clicks)[item] += 1
            at += 1
        score[row] = (clicks[fps[row]] + trials * PRIOR_RATE) / (shown[fps[row]] + trials)
    return score


def measured(data: Queries, score: F64, rows: NDArray[np.bool_]) -> F64:
    """float64[q]: NDCG@10 of the queries among some rows."""
    lists = ranked(data.query[rows], score[rows], data.fp[rows])
    return ndcg(lists, data.relevant[rows].astype(np.float64), NDCG_K)


def run(place: Place) -> Iterator[Figure]:
    """Figures of all contenders."""
    del place
    policy = read_policy()
    past = read(policy)
    data = queries_of(past, policy)
    test, valid = data.rows("test"), data.rows("valid")
    ctr = {trials: click_through(past, data, policy, trials) for trials in PRIOR_TRIALS}
    best = max(PRIOR_TRIALS, key=lambda trials: float(np.nanmean(measured(data, ctr[trials], valid))))
    planes = Planes(data.features[:, None].astype(np.float64))
    scores = {CTR: ctr[best], "default model": RateLift(policy).score(planes)[0]}
    scores |= learned(data, "ranklens", ("linear", "trees", "lambdarank"), _say, leaves=LEAVES)
    values = {name: measured(data, score, test) for name, score in scores.items()}
    yield from against("ranklens NDCG@10", values, CTR, np.unique(data.cluster[test]))
    for name, value in values.items():
        found = mean(value)
        note = f"95 % {found.low:.4f} to {found.high:.4f}; Metarank publishes {PUBLISHED}"
        told = "beats it" if found.low > PUBLISHED else "does not clear it"
        yield Figure(
            "ranklens beside Metarank",
            name,
            found.value,
            "NDCG@10",
            "Metarank",
            PUBLISHED,
            note=f"{note}: {told}",
        )


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
