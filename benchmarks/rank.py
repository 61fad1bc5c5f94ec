"""Ranking, feeds per CPU-second of one core, beside pandas: one JSON object a line.

    python -m benchmarks.rank [--items 50000] [--users 256] [--profile tottime]

Users with 200 follows, 24 authors and 16 topics, a full ring, 100 seen items; 400 candidates each, all
features, slices of 64. The peer computes the same for the same candidates, one user at a time.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure
from benchmarks.measure import on_one_thread
from benchmarks.processes import peak_mb
from benchmarks.rank_emitted import emitted
from benchmarks.rank_pandas import PandasRanker, slots_of
from models.candidates import Candidates, Query, draw_seeds, gather
from models.candidates.query import USERS_MAX
from models.context import UserBatch
from models.features import FEATURE_NAMES, ItemMemo, Scene, SceneFeatures, compute
from models.item_index import ItemIndex
from models.policy import Policy, parse_policy
from models.ranker import Ranker
from models.sample_world import SampleWorld, sample_world
from models.verbs import VerbTable

ROOT = Path(__file__).resolve().parent.parent
AUTHORS, FOLLOWS = 2_000, 200
ROUNDS = 7
PEER_USERS = 24
GOAL_FEEDS_PER_S = 5_000
CLOSE = 0.02
RANK_CLOSE = 0.2
"""Features in floats and on the grid differ by less than this; ranks of nearly equal values by more."""


def timed(run: Callable[[], object]) -> float:
    """CPU seconds of this thread."""
    start = time.thread_time()
    run()
    return time.thread_time() - start


class Bench:
    """A made-up world, its users in slices of 64, their candidates."""

    def __init__(self, items: int, users: int) -> None:
        text = (ROOT / "models" / "default_policy.toml").read_text(encoding="utf-8")
        self.policy: Policy = parse_policy(text)
        self.world: SampleWorld = sample_world(self.policy, 1, items, AUTHORS, users, FOLLOWS)
        self.ranker = Ranker(self.policy, self.world.index, 7)
        active = users - users // 8  # the last eighth of a sample world is new
        everyone = self.world.users
        size = self.slice_users = min(USERS_MAX, active)
        self.slices = [everyone.part(s, s + size) for s in range(0, active - size + 1, size)]
        self.versions = [f"v{i}" for i in range(size)]
        self.feeds = len(self.slices) * size

    def query(self, users: UserBatch) -> Query:
        seeds = draw_seeds(7, users.fp, self.versions)
        return Query(
            users, self.world.index, self.policy.verbs, self.policy.candidates, self.world.as_of_ms, seeds
        )

    def rank(self) -> None:
        """All users."""
        for number in range(len(self.slices)):
            self.rank_slice(number)

    def rank_slice(self, number: int) -> None:
        """From stored rows to feeds: merge, gather, features, score, rules, exploration, reasons."""
        users, index = self.slices[number], self.world.index
        batch = UserBatch.of(users.ids, users.rows, users.seen, users.graph, index, self.policy.verbs)
        self.ranker.rank(batch, "for_you", self.versions, self.world.as_of_ms)

    def gather_all(self) -> list[Candidates]:
        return [gather(self.query(users)) for users in self.slices]

    def scenes(self, candidates: list[Candidates]) -> list[Scene]:
        return [
            Scene(users, found, *self.context) for users, found in zip(self.slices, candidates, strict=True)
        ]

    @property
    def context(self) -> tuple[ItemIndex, VerbTable, int]:
        """What a scene is made of besides users and candidates."""
        return self.world.index, self.policy.verbs, self.world.as_of_ms

    def least(self, run: Callable[[int], object]) -> float:
        """CPU seconds per feed, `run(slice)`: of each slice the least of ROUNDS, as others disturb."""
        best = [min(timed(partial(run, number)) for _ in range(ROUNDS)) for number in range(len(self.slices))]
        return sum(best) / self.feeds


def figures(bench: Bench) -> list[Figure]:
    """Ours in total and by stage, then the peer, in one run."""
    candidates = bench.gather_all()
    memo, scenes = ItemMemo(bench.world.index), bench.scenes(candidates)

    def features(number: int) -> None:
        scene = Scene(scenes[number].users, candidates[number], *bench.context)
        bench.ranker.scorer.score(SceneFeatures(scene, memo))

    def features_anew(number: int) -> None:
        bench.world.index.statistics.changes += 1  # as if a sum over items had changed before every slice
        features(number)

    bench.rank()
    whole = bench.least(bench.rank_slice)
    used, mb = time.process_time(), peak_mb()
    gathering = bench.least(lambda number: gather(bench.query(bench.slices[number])))
    featuring, anew = bench.least(features), bench.least(features_anew)
    peer = peer_seconds(bench, candidates)
    width = float(np.mean([(c.item >= 0).sum(axis=1).mean() for c in candidates]))
    note = f"{width:.0f} candidates x {len(FEATURE_NAMES)} features, slices of {bench.slice_users}"
    return [
        Figure("rank", "feedrank", 1 / whole, "feeds/s of CPU", "pandas, one user at a time", 1 / peer,
               goal=GOAL_FEEDS_PER_S, cpu_s=used, peak_mb=mb, note=note),
        Figure("rank, per feed", "all of it", whole * 1e6, "us", goal=200, better="lower"),
        Figure("rank, per feed", "gather", gathering * 1e6, "us", better="lower"),
        Figure("rank, per feed", "features and score", featuring * 1e6, "us", better="lower"),
        Figure("rank, per feed", "features and score, items anew", anew * 1e6, "us", better="lower",
               note="nothing kept of items from slice to slice"),
        Figure("rank, per feed", "the rest", (whole - gathering - featuring) * 1e6, "us", better="lower",
               note="merge, rules, exploration, reasons, feeds"),
    ]  # fmt: skip


def peer_seconds(bench: Bench, candidates: list[Candidates]) -> float:
    """CPU seconds per feed of the peer; its features are ours, or this ends with an error."""
    peer, scene = PandasRanker(bench.world, bench.policy), bench.scenes(candidates)[0]
    planes = compute(scene)
    for user in (0, 5):
        slots = slots_of(candidates[0], user)
        theirs = peer.features(user, slots)
        for name, plane in zip(FEATURE_NAMES, planes, strict=True):
            off = np.abs(theirs[name].to_numpy() - plane[user, : len(slots)] / 4_096).max()
            if off > (RANK_CLOSE if name == "similarity_rank" else CLOSE):
                raise SystemExit(f"the peer's {name} is off by {off:.3f}: the two do not compute the same")
    size = bench.slice_users
    seconds = timed(
        lambda: [peer.rank(u, slots_of(candidates[u // size], u % size)) for u in range(PEER_USERS)]
    )
    return seconds / PEER_USERS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--users", type=int, default=256)
    parser.add_argument("--profile", metavar="ORDER", help="tottime, cumtime")
    asked = parser.parse_args()
    bench = Bench(asked.items, asked.users)
    if asked.profile:
        bench.rank()
        profiler = cProfile.Profile(time.thread_time)
        profiler.runcall(lambda: [bench.rank() for _ in range(4)])
        pstats.Stats(profiler).sort_stats(asked.profile).print_stats(60)
        return
    for figure in figures(bench) + emitted(bench):
        print(json.dumps(figure.fields()), flush=True)


if __name__ == "__main__":
    on_one_thread("benchmarks.rank")
    main()
