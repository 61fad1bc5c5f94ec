"""Benchmark `closedloop`: what ranking is worth to simulated people who act on what they are shown.

The click model lives in demo/clicks.py and knows nothing of ranking: hidden tastes that drift, position bias,
noise. Four groups by hash live in one world at the same time; the ranked one reads feeds that the job's own
steps make, at the moment of its visits. Seeds are whole worlds; intervals are over seeds.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from math import sqrt
from typing import Any

import numpy as np

from benchmarks.figure import Figure
from benchmarks.place import Place
from demo.groups import GROUPS, Slates
from demo.traffic import Traffic
from demo.world import World, WorldItem
from models.evaluation.bootstrap import Estimate, mean
from models.policy import Policy, parse_policy
from tests.fast_path import FastPath
from tests.oracle.records import EMBEDDING_DIM, Activity, Item

SEEDS = 10
PARTITIONS = 2
START_MS = 1_780_000_000_000
PAST_MS = 36 * 3_600_000
PAST_SESSIONS = 2_500
FIRST_ITEMS = 500
TURN_MS = 10_000
TURNS = 180
SESSIONS_PER_TURN = 20
ITEMS_PER_TURN = 2
VARIANTS = ("default", "exploration off")
SURFACE = "for_you"


@dataclass
class Job:
    """The job as the simulated people meet it: records in, the feed of one user out."""

    path: FastPath
    as_of_ms: int = START_MS
    waiting: list[Activity] = field(default_factory=list)

    def activity(self, record: Mapping[str, Any]) -> None:
        """One activity; the job applies it when somebody reads or the turn ends."""
        self.waiting.append(
            Activity(
                record["activity_id"],
                record["actor"],
                record["verb"],
                record["object"],
                record["event_time"],
                "author" if record["verb"] == "follow" else None,
                record.get("dwell_ms", 0),
                record.get("position", -1),
                record.get("undone_verb"),
                record.get("undone_event_time", 0),
            )
        )

    def broken(self, actor: str, time_ms: int) -> None:
        """It would be a dead letter."""

    def item(self, item: WorldItem) -> None:
        """Embeddings are stored as the wire contract says: 127 times the unit vector, rounded."""
        norm = sqrt(sum(x * x for x in item.embedding.tolist()))
        whole = [round(x * 127 / norm) for x in item.embedding.tolist()]
        whole += [0] * (EMBEDDING_DIM - len(whole))
        self.path.put(
            [Item(item.item_id, item.author, item.created_ms, item.topics, item.title, tuple(whole))]
        )

    def apply(self) -> None:
        """All that waits."""
        self.path.act(self.waiting)
        self.waiting.clear()

    def read(self, user: str) -> tuple[list[str], str | None]:
        """The user's feed as of now."""
        self.apply()
        made = self.path.feeds([user], self.as_of_ms).get((user, SURFACE))
        return (list(made.ids) if made else []), None


def world(seed: int, policy: Policy) -> dict[str, float]:
    """Click-through by group of one world."""
    people, rng = World(seed), np.random.default_rng(seed + 1_000)
    job = Job(FastPath(policy, PARTITIONS, random.Random(seed)))
    traffic = Traffic(people, Slates(people, job.read), job, rng, f"w{seed}")
    for at_ms in spread(FIRST_ITEMS, rng):
        traffic.publish(at_ms)
    traffic.follow_all(START_MS - PAST_MS)
    for at_ms in spread(PAST_SESSIONS, rng):
        traffic.past_session(at_ms)
    for turn in range(TURNS):
        now_ms = START_MS + turn * TURN_MS
        job.apply()
        job.as_of_ms = job.path.settle(now_ms)
        for _ in range(ITEMS_PER_TURN):
            traffic.publish(now_ms)
        for n in range(SESSIONS_PER_TURN):
            at_ms = now_ms + 1 + n * (TURN_MS - 2) // SESSIONS_PER_TURN
            job.as_of_ms = max(job.as_of_ms, at_ms)
            traffic.session(at_ms)
    return {group: traffic.through[group].rate().value for group in GROUPS}


def spread(count: int, rng: np.random.Generator) -> list[int]:
    """Times of the past in order, denser towards its end."""
    share = np.sort(np.sqrt(rng.random(count)))
    return [int(at) for at in START_MS - PAST_MS + share * (PAST_MS - 1)]


def policy_of(variant: str) -> Policy:
    """The bundled policy; without exploration where the variant says so."""
    text = files("models").joinpath("default_policy.toml").read_text(encoding="utf-8")
    if variant == "exploration off":
        explored = "explore_share = 0.02"
        assert explored in text
        text = text.replace(explored, "explore_share = 0.0").replace(
            "explore = { quota = 20, reach = 30 }", "explore = { quota = 0, reach = 30 }"
        )
    return parse_policy(text, variant)


def _one(variant: str, seed: int) -> tuple[str, int, dict[str, float]]:
    return variant, seed, world(seed, policy_of(variant))


def run(place: Place) -> Iterator[Figure]:
    """Lifts over the other groups, by variant, and one variant beside the other."""
    del place
    found: dict[str, dict[int, dict[str, float]]] = {variant: {} for variant in VARIANTS}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(_one, variant, seed) for variant in VARIANTS for seed in range(SEEDS)]
        for job in jobs:
            variant, seed, rates = job.result()
            found[variant][seed] = rates
    for variant, worlds in found.items():
        rate = {group: np.array([worlds[seed][group] for seed in range(SEEDS)]) for group in GROUPS}
        for other in ("chronological", "popular", "oracle"):
            yield _ratio(f"{variant}: ranked over {other}", rate["ranked"] / rate[other], rate, other)
    one, two = (np.array([found[v][seed]["ranked"] for seed in range(SEEDS)]) for v in VARIANTS)
    yield _ratio(f"{VARIANTS[0]} over {VARIANTS[1]}, ranked", one / two, None, "")


def _ratio(subject: str, values: Any, rate: dict[str, Any] | None, other: str) -> Figure:
    estimate: Estimate = mean(values)
    told = f"{SEEDS} worlds, 95 % interval {estimate.low:.3f} to {estimate.high:.3f}"
    if rate is not None:
        told += f"; click-through {rate['ranked'].mean():.3f} and {rate[other].mean():.3f}"
    goal = 1.0 if other in ("chronological", "popular") else None
    return Figure("closedloop", subject, estimate.value, "x", goal=goal, note=told)
