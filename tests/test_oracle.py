"""The fast path against the oracle, bit for bit, on made-up streams. (The real one: tests/integration.)"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from models.features import FEATURE_NAMES
from tests.both_paths import LOGGED, Expected, edited
from tests.oracle.candidates import SOURCES
from tests.oracle.made_up import Size, Stream, crowded
from tests.oracle.rules import CHANGES, DROPS

OTHER = {
    "half_life_h = 48": "half_life_h = 7",
    "affinity = 12": "affinity = 64",
    "length = 100": "length = 33",
    "item_age_days_max = 60": "item_age_days_max = 5",
    "stale_after_s = 3600": "stale_after_s = 61",
    "count = 400": "count = 150",
    "cell_items = 128": "cell_items = 17",
    "embedding = { quota = 80, reach = 120 }\n": "",
    "explore = { quota = 20, reach = 30 }": "explore = { quota = 0, reach = 90 }",
    '"keyword", "duplicate", ': "",
    "explore_share = 0.0\n": "explore_share = 0.1\n",
    "explore_share = 0.02": "explore_share = 0.5",
    "seen_times_max = 3": "seen_times_max = 30",
    "fatigue_factor = 0.7": "fatigue_factor = 0.1",
    "author_diversity_floor = 0.25": "author_diversity_floor = 0.0",
    "age = -0.1": "age = -64\nengaged_ago = 3.3\nage_days = -0.013",
}
"""A policy that differs in nearly every number, with some sources and rules off."""

SILENT = {f"user-{number}" for number in range(Size().quiet)}
"""They did nothing in the last 15 days, and `active_days` is 14: they have rows and no feeds."""
SLATE = "slate = { share = 0.5, slots = 4, pool = 12, temperature = 0.2 }"
SLATES = {"explore_share = 0.02": f"explore_share = 0.1\n{SLATE}"}


def test_the_oracle_knows_nothing_of_the_fast_path() -> None:
    imported = set()
    for path in (Path(__file__).parent / "oracle").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
    others = {name for name in imported if not name.startswith("tests.oracle.")}
    assert {name.partition(".")[0] for name in others} - sys.stdlib_module_names == {"xxhash"}


@pytest.fixture(scope="module")
def many() -> Expected:
    return Expected(Stream(1), edited(LOGGED))


@pytest.mark.parametrize("cuts", [1, 2])
def test_rows_and_feeds_are_those_of_the_pages(many: Expected, cuts: int) -> None:
    assert many.differences(cuts) == []


def test_the_stream_leaves_nothing_out(many: Expected) -> None:
    """No source, rule or feature stands by while feeds are compared."""
    logs = [feed.log for feed in many.feeds.values()]
    assert {name for log in logs for name in log.candidates} == set(SOURCES)
    assert {name for log in logs for name in log.dropped} == set(DROPS) - {"future", "too_old"}
    assert {name for log in logs for names in log.changed for name in names} == set(CHANGES)
    assert sum(sum(log.explored) for log in logs) > 50
    rows = [row for log in logs for row in log.features]
    assert rows[0].keys() == set(FEATURE_NAMES)
    assert {name for name in FEATURE_NAMES if len({row[name] for row in rows}) == 1} == {"hour"}
    users = {user for shard in many.world.shards for user in shard.users}
    assert users - {user for user, _ in many.feeds} == SILENT


def test_few_users_with_long_histories() -> None:
    expected = Expected(Stream(2, Size(activities=4_000, users=4, quiet=1)), edited(LOGGED))
    assert expected.differences() == []
    users = [user for shard in expected.world.shards for user in shard.users.values()]
    assert max(user.shown for user in users) > 512


def test_slates_drawn_slot_by_slot() -> None:
    expected = Expected(Stream(4, Size(activities=2_000, users=24)), edited(LOGGED, SLATES))
    assert expected.differences() == []
    drawn = [feed.log.chances for (_, surface), feed in expected.feeds.items() if surface == "for_you"]
    assert 4 <= sum(map(bool, drawn)) <= len(drawn) - 4
    assert {len(chances) for chances in drawn if chances} == {4}
    assert len({round(chance, 6) for chances in drawn for chance in chances}) > 20


def test_another_policy() -> None:
    expected = Expected(Stream(3, Size(activities=2_000, users=20)), edited(LOGGED, OTHER))
    assert expected.differences() == []
    assert "too_old" in {rule for feed in expected.feeds.values() for rule in feed.log.dropped}


def test_more_edges_than_are_kept_and_more_authors_than_are_read() -> None:
    expected = Expected(crowded(), edited(LOGGED))
    assert expected.differences() == []
    graph = expected.world.shard("ann").users["ann"].graph
    assert graph is not None
    assert [len(edges) for edges in graph.values()] == [5_000, 1_000, 1_000]
    assert len(expected.feeds["ann", "following"].entries) == 100
