"""The comparison with the oracle has teeth: one thing changed in the fast path, and it fails."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from tests.both_paths import LOGGED, Expected, edited
from tests.oracle.made_up import Size, Stream, crowded

Change = Callable[[Any], Any]

USERS, ITEMS, FEEDS = "user rows", "item rows", "feeds"


def to(value: object) -> Change:
    return lambda _: value


def _an_hour_on(table: Any) -> Any:
    return np.roll(table, -1)


def _one_off(table: Any) -> Any:
    return table + (np.arange(len(table)) == len(table) // 2)


def _by_place_alone(_: object) -> Any:
    return lambda fp: np.zeros(fp.shape, np.int64) + np.arange(fp.shape[1])


def _rounded_to_nearest(_: object) -> Any:
    return lambda s, f: np.rint(s * np.where(s < 0, 8192 - f, f) / 4096)


MUTANTS: list[tuple[str, str, Change, str]] = [
    ("models.users", "SESSION_GAP_MS", to(1_500_000), USERS),
    ("models.users", "LONG_WEIGHT", _an_hour_on, USERS),
    ("models.merge", "DECAY_POSITIVE", _an_hour_on, USERS),
    ("models.merge", "DECAY_NEGATIVE", _an_hour_on, USERS),
    ("models.merge", "AFFINITY_UNIT", to(255), USERS),
    ("models.effects", "DWELL_S_MAX", to(60), USERS),
    ("models.effects", "DWELL_S_MAX", to(60), ITEMS),
    ("models.graph", "DAY_MS", to(43_200_000), USERS),
    ("models.items", "LONG_WEIGHT", _an_hour_on, ITEMS),
    ("models.item_deltas", "POSITIONS", to(99), ITEMS),
    ("models.item_deltas", "examination", lambda weigh: lambda places: weigh(places) + (places == 7), ITEMS),
    ("models.features.priors", "DEBIAS_MAX", to(4_000), FEEDS),
    ("models.trending", "TREND_PRIOR", to(6), FEEDS),
    ("models.refresh", "EXPLORE_IMPRESSIONS_MAX", to(2), FEEDS),
    ("models.candidates.in_network", "BOOST_H_MAX", to(1), FEEDS),
    ("models.candidates.query", "TOPIC_FOLLOW_WEIGHT", to(0), FEEDS),
    ("models.candidates.query", "USER_TOPICS_MAX", to(3), FEEDS),
    ("models.features.interests", "DECAY_POSITIVE", _an_hour_on, FEEDS),
    ("models.features.priors", "ITEM_WEIGHT", to(21), FEEDS),
    ("models.features.priors", "TOPIC_WEIGHT", to(101), FEEDS),
    ("models.features.context", "USER_WEIGHT", to(51), FEEDS),
    ("models.features.context", "SESSION_GAP_MS", to(0), FEEDS),
    ("models.features.whole", "_BEND", _one_off, FEEDS),
    ("models.features.fatigue", "TIMES_MAX", to(1), FEEDS),
    ("models.features.relative", "DEVIATION_MIN", to(4_096), FEEDS),
    ("models.score", "FEATURE_NAMES", lambda names: (*names[1:], names[0]), FEEDS),
    ("models.features.scene", "ties", _by_place_alone, FEEDS),
    ("models.rules", "FATIGUE_TIMES_MAX", to(1), FEEDS),
    ("models.rules", "weakened", _rounded_to_nearest, FEEDS),
    ("models.explore", "EXPLORE_STREAM", lambda stream: stream + np.uint64(1), FEEDS),
    ("models.ranker", "SCORES_PER_UNIT", to(999_999), FEEDS),
]


@pytest.fixture(scope="module")
def worlds() -> list[Expected]:
    streams = Stream(4, Size(activities=1_500, items=200, users=12, quiet=1)), crowded()
    found = [Expected(stream, edited(LOGGED)) for stream in streams]
    assert [one.differences() for one in found] == [[], []]
    return found


@pytest.mark.parametrize(
    ("module", "name", "change", "part"), MUTANTS, ids=[f"{m[0]}.{m[1]}-{m[3]}" for m in MUTANTS]
)
def test_a_mutant_is_found(
    module: str,
    name: str,
    change: Change,
    part: str,
    worlds: list[Expected],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = import_module(module)
    monkeypatch.setattr(where, name, change(getattr(where, name)))
    assert any(part in one.differences() for one in worlds)


def test_what_makes_no_difference_makes_none(worlds: list[Expected], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer cells in a table, so that nearly all collide: what is looked up there is the same."""
    monkeypatch.setattr("models.features.pairs.CELL_BITS", 2)
    monkeypatch.setattr("models.features.pairs._CELL_MASK", np.uint64(3))
    assert [one.differences(cuts=3) for one in worlds] == [[], []]
