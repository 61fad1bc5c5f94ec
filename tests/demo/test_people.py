"""The simulated people: the same from the same seed, and what they send is what they say they sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from demo.clicks import examined, react
from demo.groups import GROUPS, Slates, group_of
from demo.traffic import Traffic
from demo.world import VISITOR, World, WorldItem
from models.columns import ActivityColumns
from streams.codec import Decoder, encode_activity
from streams.policy_file import read_policy
from wire.partitioner import partition_of

NOW_MS = 1_800_000_000_000


@dataclass
class Kept:
    """An outbox that keeps what it is given."""

    activities: list[Mapping[str, Any]] = field(default_factory=list)
    items: list[WorldItem] = field(default_factory=list)
    broken_by: list[str] = field(default_factory=list)

    def activity(self, record: Mapping[str, Any]) -> None:
        self.activities.append(record)

    def broken(self, actor: str, time_ms: int) -> None:
        self.broken_by.append(actor)

    def item(self, item: WorldItem) -> None:
        self.items.append(item)


def some_traffic(sessions: int = 400, seed: int = 3) -> tuple[Traffic, Kept]:
    out, world = Kept(), World(seed, users=80)
    slates = Slates(world, lambda user: ([item.item_id for item in world.items[:10]], "slate"))
    traffic = Traffic(world, slates, out, np.random.default_rng(seed), "run-1")
    for k in range(150):
        traffic.publish(NOW_MS - 1_000 * (150 - k))
    for k in range(50):
        traffic.past_session(NOW_MS - 1_000 * (50 - k))
    traffic.welcome(NOW_MS)
    for k in range(sessions):
        traffic.session(NOW_MS + 20 * k)
    return traffic, out


def test_the_same_seed_gives_the_same_traffic() -> None:
    assert some_traffic()[1].activities == some_traffic()[1].activities
    assert some_traffic()[1].activities != some_traffic(seed=4)[1].activities


def test_what_was_sent_is_counted_by_kind() -> None:
    traffic, out = some_traffic(sessions=2_000)
    ids = Counter(a["activity_id"] for a in out.activities)
    assert len(out.activities) + len(out.broken_by) == traffic.sent.activities
    assert sum(n - 1 for n in ids.values()) == traffic.sent.retried > 0
    assert len({a["activity_id"] for a in out.activities if a["verb"] == "undo"}) == traffic.sent.undos > 0
    assert len(out.broken_by) == traffic.sent.broken > 0


def test_a_retry_follows_at_once_so_that_it_is_among_the_users_last_ids() -> None:
    _, out = some_traffic(sessions=2_000)
    last: dict[str, str] = {}
    seen: set[str] = set()
    for activity in out.activities:
        actor, name = activity["actor"], activity["activity_id"]
        assert name not in seen or last[actor] == name
        seen.add(name)
        last[actor] = name


def test_nobody_acts_on_an_item_that_was_not_sent_before() -> None:
    _, out = some_traffic()
    there = {item.item_id for item in out.items}
    acted_on = {a["object"] for a in out.activities if a["verb"] not in ("visit", "follow")}
    assert acted_on <= there


def test_the_worker_takes_all_of_it() -> None:
    _, out = some_traffic()
    verbs = read_policy(None).verbs
    records = [a for a in out.activities if partition_of(a["actor"].encode(), 4) == 2]
    n = len(records)
    columns, dead = Decoder("avro", verbs, 4).decode(
        "feedrank.activities",
        2,
        np.arange(n),
        np.array([a["event_time"] for a in records]),
        [a["actor"].encode() for a in records],
        [encode_activity(a) for a in records],
    )
    assert isinstance(columns, ActivityColumns)
    assert (len(columns), dead) == (n, [])


def test_the_visitor_is_left_to_the_visitor() -> None:
    _, out = some_traffic()
    assert {a["verb"] for a in out.activities if a["actor"] == VISITOR} == {"visit", "impression"}
    assert group_of(VISITOR) == "ranked"


def test_groups_are_of_like_size() -> None:
    sizes = Counter(group_of(f"user-{i}") for i in range(4_000))
    assert set(sizes) == set(GROUPS)
    assert min(sizes.values()) > 850


def test_only_live_sessions_count_for_the_groups() -> None:
    traffic, out = some_traffic(sessions=0)
    assert any(a["verb"] == "click" for a in out.activities)
    assert all(count.rate().impressions == 0 for count in traffic.through.values())


def test_the_oracle_is_clicked_more_than_the_others() -> None:
    traffic, _ = some_traffic(sessions=600)
    rates = {group: count.rate().value for group, count in traffic.through.items()}
    assert rates["oracle"] > 1.25 * max(rates["chronological"], rates["ranked"])


def test_no_group_is_shown_an_item_twice_in_a_row() -> None:
    world = World(1, users=40)
    for k in range(300):
        world.publish(NOW_MS - k)
    slates = Slates(world, lambda user: ([], None))
    for user in range(1, 40):
        first, second = (slates.slate(user, NOW_MS)[0] for _ in range(2))
        assert not {i.item_id for i in first} & {i.item_id for i in second}


def test_people_look_less_at_what_is_further_down() -> None:
    world, rng = World(2, users=10), np.random.default_rng(0)
    slate = [world.publish(NOW_MS) for _ in range(10)]
    looked = Counter(
        r.position
        for _ in range(3_000)
        for r in react(world, 3, slate, NOW_MS, rng)
        if r.verb == "impression"
    )
    share = np.array([looked[k] / 3_000 for k in range(10)])
    assert np.abs(share - examined(10)).max() < 0.03
