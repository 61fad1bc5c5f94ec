"""Logged feature values equal those that are rebuilt by replaying to the record's coordinates, bit by bit."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from models.columns import ActivityColumns
from models.features import FEATURE_NAMES
from models.fingerprint import fp64
from models.item_columns import ItemRecord
from models.policy import Policy, parse_policy
from tests.both_paths import LOGGED, PARTITIONS, edited
from tests.fast_path import TICK_MS, FastPath, columns
from tests.oracle.made_up import Size, Stream
from tests.oracle.records import Activity, Item
from topologies.history import History
from topologies.past import ItemChange, Past, Served, Slate, of_served, of_shown
from topologies.rebuild import Rebuilt, compared, rebuild
from wire.partitioner import partition_of

ROUNDS = 3


def policy() -> Policy:
    return parse_policy(edited(LOGGED))


@dataclass
class Run:
    """A job that settled several times, and what it left behind."""

    past: Past
    fast: FastPath


def record(item: Item) -> ItemRecord:
    embedding = None if item.embedding is None else np.array(item.embedding, np.int8)
    return ItemRecord(item.item_id, item.author, item.created_ms, item.topics, embedding, item.title)


def produced(stream: Stream) -> list[tuple[int, Item | Activity]]:
    """Events with the timestamps of their records: late activities are produced when their turn comes."""
    found: list[tuple[int, Item | Activity]] = []
    now_ms = 0
    for event in stream.events:
        assert not isinstance(event, str)
        now_ms = max(now_ms, event.created_ms if isinstance(event, Item) else event.time_ms)
        found.append((now_ms, event))
    return found


def run(seed: int = 3, behind: bool = False, unread: int = 0) -> Run:
    """`behind`: item statistics lack what each owner has not heard of, users' rows do not. `unread`: so many
    items that are there when a round ends are only read in the next one."""
    stream = Stream(seed, Size(activities=2_500, items=300, users=40, changing=False))
    events, fast, served = produced(stream), FastPath(policy(), PARTITIONS, random.Random(1)), list[Served]()
    cuts = [len(events) * part // ROUNDS for part in range(1, ROUNDS)] + [len(events)]
    cuts = cuts if behind else [_beyond_a_tick(events, cut) for cut in cuts]
    begin = read = 0
    all_items = [event for _, event in events if isinstance(event, Item)]
    for cut in cuts:
        there = sum(isinstance(event, Item) for _, event in events[:cut]) - unread
        fast.put(all_items[read:there])
        read = there
        fast.act([event for _, event in events[begin:cut] if isinstance(event, Activity)])
        as_of_ms = (fast.tick_behind if behind else fast.settle)(events[cut - 1][0])
        users = sorted({e.actor for _, e in events[:cut] if isinstance(e, Activity)})
        made = fast.feeds(users, as_of_ms)
        some = [Served.parse(one.record(), partition_of(u.encode(), 4)) for (u, _), one in made.items()]
        served += [replace(one, listed=(read,), known=(read,)) for one in some] if unread else some
        begin = cut
    parts: list[list[tuple[int, Activity]]] = [[] for _ in range(PARTITIONS)]
    for now_ms, event in events:
        if isinstance(event, Activity):
            parts[partition_of(event.actor.encode(), PARTITIONS)].append((now_ms, event))
    known = [(at, e) for at, e in events if isinstance(e, Item)]
    items = [ItemChange(at, e.fp, record(e), 0, place) for place, (at, e) in enumerate(known)]
    return Run(Past([_columns(part) for part in parts], items, served, marks=fast.marks), fast)


def _columns(part: list[tuple[int, Activity]]) -> ActivityColumns:
    made = columns([event for _, event in part], policy(), 0)
    return replace(made, record_ms=np.array([at for at, _ in part], np.int64))


def _beyond_a_tick(events: list[tuple[int, Item | Activity]], cut: int) -> int:
    """The next place at which the stream's clock enters another tick: all before it was there in time."""
    while cut < len(events) and -(-events[cut - 1][0] // TICK_MS) >= -(-events[cut][0] // TICK_MS):
        cut += 1
    return cut


def rebuilt_of(past: Past, slates: list[Slate], counts: Counter[str]) -> list[Rebuilt]:
    return list(rebuild(past, History(policy().verbs, TICK_MS, 10_000), policy(), slates, counts))


def tell(past: Past, slates: list[Slate], counts: Counter[str]) -> None:
    """Rebuild them, and count what differs from the log."""
    for one in rebuilt_of(past, slates, counts):
        assert one.slate.served is not None
        compared(one, one.slate.served, counts)


def test_rebuilt_features_equal_the_logged_ones() -> None:
    job, counts = run(), Counter[str]()
    wanted = [one for one in job.past.served if one.surface == "for_you"]
    random.Random(2).shuffle(wanted)
    found = rebuilt_of(job.past, [of_served(one) for one in wanted], counts)
    assert len(found) == len(wanted) > 80
    assert len({one.as_of_ms for one in wanted}) == ROUNDS
    for one in found:
        assert one.slate.served is not None
        compared(one, one.slate.served, counts)
        assert set(one.slate.served.ids) <= set(one.ids)
    assert counts["logged entries compared"] > 2_000
    assert counts["logged values that differ"] == 0
    assert counts.keys() == {
        "logged entries compared",
        "logged entries with a value that differs",
        "logged values that differ",
    }


def test_marks_say_what_the_statistics_of_a_job_that_lags_contained() -> None:
    job, counts = run(behind=True), Counter[str]()
    ends = {mark.positions for mark in job.past.marks}
    assert len(ends) > ROUNDS, "owners heard of different activities"
    wanted = [of_served(one) for one in job.past.served if one.surface == "for_you"]
    tell(job.past, wanted, counts)
    assert counts["logged entries compared"] > 2_000
    assert counts["logged values that differ"] == 0
    guessed = replace(job.past, marks=[])
    tell(guessed, wanted, counts)
    assert counts["logged values that differ"] > 100


def test_items_that_were_there_and_not_read_yet_are_no_candidates() -> None:
    job, counts = run(unread=20), Counter[str]()
    wanted = [of_served(one) for one in job.past.served if one.surface == "for_you"]
    tell(job.past, wanted, counts)
    assert counts["logged entries compared"] > 2_000
    assert counts["logged values that differ"] == 0
    told = [replace(one, listed=(), known=()) for one in job.past.served if one.surface == "for_you"]
    tell(job.past, [of_served(one) for one in told], counts)
    assert counts["logged values that differ"] > 100


def test_feeds_of_before_the_first_mark_are_counted() -> None:
    job, counts = run(), Counter[str]()
    wanted = [of_served(one) for one in job.past.served if one.surface == "for_you"]
    first = min(one.tick for one in wanted)
    kept = [mark for mark in job.past.marks if mark.tick > first or mark.item_partition]
    found = rebuilt_of(replace(job.past, marks=kept), wanted, counts)
    assert {one.slate.tick for one in found} == {one.tick for one in wanted} - {first}
    assert counts["slates of a tick before the log's first"] == sum(one.tick == first for one in wanted)


def test_a_feature_that_is_computed_otherwise_is_noticed() -> None:
    """The comparison has teeth: the policy of another day (other half-lives) gives other values."""
    job, counts = run(), Counter[str]()
    other = parse_policy(edited(LOGGED, {"affinity = 8\nhalf_life_h = 48": "affinity = 3\nhalf_life_h = 4"}))
    slates = [of_served(one) for one in job.past.served if one.surface == "for_you"]
    for one in rebuild(job.past, History(other.verbs, TICK_MS, 10_000), other, slates, counts):
        assert one.slate.served is not None
        compared(one, one.slate.served, counts)
    assert counts["logged values that differ"] > 100


def shown_slates(past: Past) -> list[Slate]:
    part = past.partitions[0]
    at = range(200, len(part), 50)
    times = [int(part.record_ms[i]) for i in at]
    fps = [np.array([change.fp for change in past.items[:12]], np.uint64) for _ in at]
    return of_shown([part.keys[i] for i in at], times, fps, part.record_ms, TICK_MS)


def test_the_future_changes_nothing() -> None:
    """Activities at or after the slate's time are not known: shuffled or gone, features stay."""
    past = run().past
    one = Past(past.partitions[:1], past.items)
    slates, last = shown_slates(one), shown_slates(one)[5]
    before = rebuilt_of(one, slates[:6], Counter())[5]
    part = one.partitions[0]
    gone = Past([part.cut(0, last.position)], one.items)
    after = rebuilt_of(gone, slates[:6], Counter())[5]
    assert (before.features == after.features).all()
    longer = Past([part.cut(0, last.position - 1)], one.items)
    slates = [replace(slate, position=min(slate.position, last.position - 1)) for slate in slates[:6]]
    assert (rebuilt_of(longer, slates, Counter())[5].features != before.features).any()


def test_a_position_that_is_over_is_counted_not_guessed() -> None:
    past, counts = run().past, Counter[str]()
    wanted = [one for one in past.served if one.surface == "for_you"][-1]
    behind = replace(of_served(wanted), position=0)
    assert rebuilt_of(past, [behind], counts) == []
    assert counts["slates behind what their item statistics hold"] == 1


def test_features_are_those_of_the_job() -> None:
    job = run()
    one = rebuilt_of(job.past, [of_served(job.past.served[0])], Counter())[0]
    assert one.features.shape[0] == len(FEATURE_NAMES)
    assert one.features.dtype == np.int32
    assert one.fps.tolist() == [fp64(identifier.encode()) for identifier in one.ids]


def test_a_slate_of_unknown_items_and_an_unknown_user_is_empty_not_an_error() -> None:
    past = run().past
    one = Past(past.partitions[:1], past.items)
    slate = replace(shown_slates(one)[0], user=b"nobody", fps=np.array([1, 2, 3], np.uint64))
    (found,) = rebuilt_of(one, [slate], Counter())
    assert (found.ids, found.features.shape) == ([], (len(FEATURE_NAMES), 0))


def test_a_user_without_history_has_features() -> None:
    past = run().past
    one = Past(past.partitions[:1], past.items)
    slate = replace(shown_slates(one)[0], user=b"nobody")
    (found,) = rebuilt_of(one, [slate], Counter())
    assert len(found.ids) == 12
    for name in ("author_long_pos", "topic_short_pos", "seen_times", "session_depth"):
        assert not found.features[FEATURE_NAMES.index(name)].any()
