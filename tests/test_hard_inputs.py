"""Rude producers: late, early, repeated, withdrawn, flapping. Rows and feeds are those of the oracle, bit for
bit, whatever the cuts."""

from __future__ import annotations

import random
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.policy import Policy, parse_policy
from tests.both_paths import BUNDLED, shown
from tests.fast_path import TICK_MS, FastPath, columns
from tests.oracle.feeds import SURFACES, World
from tests.oracle.numbers import DAY_MS, HOUR_MS
from tests.oracle.records import Activity, Item

NOW_MS = 1_700_000_000_000
MINUTE_MS = 60_000
PARTITIONS = 2
USERS, IDS = ("ann", "bob", "cid"), 12
ITEMS = [
    Item(f"i-{n}", f"author-{n % 2}", NOW_MS - n * DAY_MS, (f"topic-{n % 2}",), None, tuple([n + 1] * 64))
    for n in range(4)
]
GRAPH = ("follow", "mute", "block")
ACTS = ("impression", "click", "dwell", "like", "share", "hide", "report", *GRAPH)
LATENESS_MS = (
    0, 1, MINUTE_MS, 5 * MINUTE_MS, 59 * MINUTE_MS, HOUR_MS, 25 * HOUR_MS, 6 * DAY_MS, 7 * DAY_MS,
    8 * DAY_MS, 239 * DAY_MS, 500 * DAY_MS, -1, -5 * MINUTE_MS,
)  # fmt: skip
"""On both sides of every horizon; negative: ahead of the clock, as far as a record may be."""


@cache
def policy() -> Policy:
    return parse_policy(BUNDLED)


@st.composite
def acts(draw: st.DrawFn, users: tuple[str, ...] = USERS, verbs: tuple[str, ...] = ACTS) -> Activity:
    """Anything that a good record may be. Ids come again, and what is undone need never have been done."""
    verb = draw(st.sampled_from((*verbs, "undo")))
    undone = draw(st.sampled_from(verbs)) if verb == "undo" else None
    time_ms = NOW_MS - draw(st.sampled_from(LATENESS_MS))
    edge = (undone or verb) in GRAPH
    return Activity(
        activity_id=f"a-{draw(st.integers(0, IDS))}",
        actor=draw(st.sampled_from(users)),
        verb=verb,
        object=f"author-{draw(st.integers(0, 1))}" if edge else draw(st.sampled_from(ITEMS)).item_id,
        time_ms=time_ms,
        target=draw(st.sampled_from((None, "author"))) if edge else None,
        dwell_ms=draw(st.sampled_from((0, 999, 30_000, 4_000_000))),
        position=draw(st.sampled_from((-1, 0, 1))),
        undone_verb=undone,
        undone_ms=time_ms - draw(st.sampled_from(LATENESS_MS[:-2])) if undone else 0,
    )


def numbered(activities: list[Activity]) -> list[Activity]:
    """With ids of their own, so that all count."""
    return [Activity(**{**vars(one), "activity_id": f"own-{n}"}) for n, one in enumerate(activities)]


def agree(activities: list[Activity], cuts: int) -> None:
    """Fast path and oracle, on rows and on settled feeds."""
    fast, world = FastPath(policy(), PARTITIONS, random.Random(cuts)), World(BUNDLED, PARTITIONS)
    fast.put(ITEMS)
    for item in ITEMS:
        world.put(item)
    for one in activities:
        world.act(one)
    fast.act(activities)
    as_of_ms = fast.settle(NOW_MS + HOUR_MS)
    assert fast.user_rows() == world.user_rows()
    assert fast.item_rows() == world.item_rows()
    settled = world.settled(NOW_MS + HOUR_MS, TICK_MS)
    users = [user.id for user in settled.active()]
    made = {key: shown(one) for key, one in fast.feeds(users, as_of_ms).items()}
    for user in settled.active():
        for surface in SURFACES:
            expected = settled.feed(user, surface)
            assert (made[user.id, surface].head, made[user.id, surface].entries) == (
                expected.head,
                expected.entries,
            )


CUTS = st.integers(0, 50)


@settings(max_examples=60, deadline=None)
@given(st.lists(acts(), max_size=60), CUTS)
def test_anything_in_any_order(activities: list[Activity], cuts: int) -> None:
    agree(activities, cuts)


@settings(max_examples=40, deadline=None)
@given(st.lists(acts(), max_size=25), st.lists(st.integers(1, 25), max_size=25), CUTS)
def test_repeats_near_and_far(activities: list[Activity], back: list[int], cuts: int) -> None:
    """A record that is sent again counts once within the last 16 of its user, and again beyond."""
    stream = numbered(activities)
    for number, distance in enumerate(back if stream else ()):
        stream.insert(2 * number + distance, stream[number % len(stream)])
    agree(stream, cuts)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTS), st.permutations(["do", "undo", "undo"])), max_size=12), CUTS)
def test_undo_of_every_verb_before_after_and_twice(pairs: list[tuple[str, list[str]]], cuts: int) -> None:
    stream: list[Activity] = []
    for verb, order in pairs:
        name, kind = ("author-1", "author") if verb in GRAPH else ("i-1", None)
        for number, act in enumerate(order):
            time_ms = NOW_MS - HOUR_MS + number
            undo = act == "undo"
            stream.append(
                Activity(
                    f"p-{len(stream)}", "ann", "undo" if undo else verb, name, time_ms, kind,
                    undone_verb=verb if undo else None, undone_ms=NOW_MS - HOUR_MS if undo else 0,
                )
            )  # fmt: skip
    agree(stream, cuts)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(GRAPH), st.integers(0, 2)), max_size=60), CUTS)
@example([(True, "follow", 0), (False, "follow", 0)] * 20, 0)
def test_follow_and_unfollow_flapping(flaps: list[tuple[bool, str, int]], cuts: int) -> None:
    stream = [
        Activity(
            f"f-{n}", "ann", act if on else "undo", f"author-{author}", NOW_MS - HOUR_MS + n, "author",
            undone_verb=None if on else act, undone_ms=0 if on else NOW_MS - HOUR_MS,
        )
        for n, (on, act, author) in enumerate(flaps)
    ]  # fmt: skip
    agree(stream, cuts)


@pytest.mark.parametrize("late_ms", [8 * DAY_MS, 500 * DAY_MS])
def test_beyond_the_horizon_is_counted_as_late_and_changes_no_window(late_ms: int) -> None:
    fast = FastPath(policy(), 1, random.Random(0))
    fast.put(ITEMS)
    shard = fast.users[0]
    found = []
    for number, time_ms in enumerate((NOW_MS, NOW_MS - late_ms)):
        part = columns([Activity(f"l-{number}", "ann", "like", "i-1", time_ms)], policy(), number)
        shard.rows.make_resident(part.keys)
        applied, _ = shard.apply(part, shard.plan(part), [], number + 1)
        row = shard.rows.arena.rows[0]
        found.append((applied.late, [row[name].tolist() for name in ("m5", "h1", "d1")]))
    assert (found[0][0], found[1][0]) == (0, 1)
    assert found[0][1] == found[1][1]
