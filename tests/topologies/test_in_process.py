"""Whatever happens to the job, rows and settled feeds are those of the simplest schedule."""

from __future__ import annotations

import random
from functools import cache
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from models.policy import Policy, parse_policy
from tests.fast_path import FastPath
from tests.oracle.made_up import Size, Stream
from tests.oracle.records import Activity, Item
from tests.topologies.faults import Schedule, Simulation
from tests.topologies.in_process import Sizes
from tests.topologies.outside import ITEMS, USERS, shown

SMALL = Sizes(users=10, items=90, ranked=3)
"""Rows of users and items come and go all the time."""


@cache
def policy() -> Policy:
    return parse_policy(files("models").joinpath("default_policy.toml").read_text())


@cache
def stream(seed: int = 1) -> Stream:
    return Stream(seed, Size(activities=800, items=300, users=50, changing=False))


@cache
def expected(partitions: int) -> tuple[dict[Any, Any], dict[Any, Any], dict[Any, Any]]:
    """User rows, item rows, feeds: all items first, then all activities, no faults, no Kafka."""
    path = FastPath(policy(), partitions, random.Random(0))
    path.put([event for event in stream().events if isinstance(event, Item)])
    path.act([event for event in stream().events if isinstance(event, Activity)])
    as_of_ms = path.settle(stream().end_ms)
    active_ms = as_of_ms - policy().feed.active_days * 86_400_000
    users = [
        key[1:].decode()
        for key, row in path.user_rows().items()
        if key[:1] == b"u" and int.from_bytes((row or b"")[:8], "little") > active_ms
    ]
    feeds = {key: shown(made.feed) for key, made in path.feeds(users, as_of_ms).items()}
    return path.user_rows(), path.item_rows(), feeds


def same(simulation: Simulation) -> None:
    """Compares all bytes."""
    users, items, feeds = expected(simulation.schedule.partitions)
    assert simulation.topics.rows(USERS) == users
    assert simulation.topics.rows(ITEMS) == items
    settled = {key: shown(feed) for key, feed in simulation.settled().items()}
    assert settled.keys() == feeds.keys()
    for key, feed in feeds.items():
        assert settled[key] == feed, key


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("at_once", [1, 4])
def test_without_faults(workers: int, at_once: int) -> None:
    same(Simulation(stream(), policy(), Schedule(5, workers=workers, at_once=at_once)).run())


def test_one_partition() -> None:
    same(Simulation(stream(), policy(), Schedule(6, workers=3, partitions=1, crashes=3, losses=3)).run())


@pytest.mark.parametrize("seed", range(4))
def test_with_every_fault(seed: int) -> None:
    plan = Schedule(seed, workers=3, crashes=5, losses=8, moves=8, sizes=SMALL)
    simulation = Simulation(stream(), policy(), plan).run()
    same(simulation)
    assert {"crash", "lose", "move", "emit", "refresh"} <= simulation.steps.keys()


def test_every_bad_record_is_one_dead_letter() -> None:
    plan = Schedule(11, workers=2, crashes=4, losses=6, moves=4, bad=20, sizes=SMALL)
    simulation = Simulation(stream(), policy(), plan).run()
    bad = [
        (str(partition).encode(), str(offset).encode())
        for partition, log in enumerate(simulation.topics.activities)
        for offset, one in enumerate(log)
        if one is None
    ]
    prefix = "__connect.errors."
    letters = [(one[f"{prefix}partition"], one[f"{prefix}offset"]) for one in simulation.topics.letters]
    assert len(bad) > 20
    assert sorted(letters) == sorted(bad)
    users, items, _ = expected(4)
    assert (simulation.topics.rows(USERS), simulation.topics.rows(ITEMS)) == (users, items)


@settings(max_examples=5, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    seed=st.integers(1_000, 1 << 32),
    workers=st.integers(1, 3),
    at_once=st.integers(1, 4),
    faults=st.tuples(st.integers(0, 6), st.integers(0, 10), st.integers(0, 10)),
    sizes=st.sampled_from([SMALL, Sizes()]),
)
def test_any_schedule(
    seed: int, workers: int, at_once: int, faults: tuple[int, int, int], sizes: Sizes
) -> None:
    crashes, losses, moves = faults
    plan = Schedule(seed, workers, 4, at_once, crashes, losses, moves, sizes=sizes)
    same(Simulation(stream(), policy(), plan).run())
