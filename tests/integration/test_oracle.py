"""The real social stream through a real Kafka, RocksDB, Redis and two workers, against the oracle.

Made-up people are mixed in at its end, because the real stream knows no impressions, embeddings or mutes.
"""

from __future__ import annotations

import heapq
import random
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.resources import files
from itertools import islice
from math import sqrt
from pathlib import Path
from typing import Any

import orjson
import pytest

from feedrank.load import uboot
from feedrank.load.events import ActivityEvent, Event, ItemEvent
from serving.reader import FeedReader
from tests.integration.job import Job
from tests.integration.replays import LIVE, a_shadow_catches_up, replays_have_the_same_digest
from tests.oracle.digest import digest
from tests.oracle.feeds import SURFACES, Settled, World
from tests.oracle.made_up import Size, Stream
from tests.oracle.numbers import DAY_MS
from tests.oracle.records import EMBEDDING_DIM, Activity, Item
from tests.oracle.users import User
from wire.version import Version

CUT = 18_000
PARTITIONS = 4
TICK_MS = 10_000
USERS_COMPARED_MIN = 300
SILENT = "silent-sam"
"""Liked one item more than a year before all else, and it was told late: active at no time."""
STRANGER = "never-seen"
GROUP = 150
"""Users with the longest and the shortest histories, and with the most edges: so many of each."""


@pytest.fixture(scope="module")
def policy_text() -> str:
    """The bundled policy with users active for a year and items for ten, so that old data has many feeds."""
    text = files("models").joinpath("default_policy.toml").read_text()
    edits = {"active_days = 14": "active_days = 365", "item_age_days_max = 60": "item_age_days_max = 3650"}
    for old, new in edits.items():
        assert old in text
        text = text.replace(old, new)
    return text


def real_events(data_dir: Path) -> Iterator[Event]:
    folder = data_dir / "uboot"
    return uboot.events(folder / "social_events.jsonl.gz", follows=folder / "derived_follows.tsv.gz")


def with_made_up(real: list[Event]) -> list[Event]:
    """Made-up people act on made-up items in the last 20 days of the real stream, and one far too late."""
    size = Size(users=150, end_ms=max(event.time_ms for event in real), changing=False)
    made_up = [as_event(event) for event in Stream(5, size).events if not isinstance(event, str)]
    # a late record stands where it was produced, behind newer ones: order by the running maximum
    newest, keyed = 0, []
    for event in made_up:
        newest = max(newest, event.time_ms)
        keyed.append((newest, event))
    both = heapq.merge(((e.time_ms, e) for e in real), keyed, key=lambda one: one[0])
    events = [event for _, event in both]
    first = next(event for event in events if isinstance(event, ItemEvent))
    long_ago_ms = min(event.time_ms for event in events) - 400 * DAY_MS
    events.insert(-5_000, ActivityEvent("only-one", SILENT, "like", first.item_id, long_ago_ms))
    return events


def as_event(event: Item | Activity) -> Event:
    if isinstance(event, Item):
        floats = None if event.embedding is None else tuple(float(x) / 3 for x in event.embedding)
        return ItemEvent(
            event.item_id, event.author, event.created_ms, event.created_ms, event.topics, event.title,
            None, floats,
        )  # fmt: skip
    # what is undone in the future is a dead letter
    undone_ms = min(event.undone_ms, event.time_ms) if event.undone_verb else None
    return ActivityEvent(
        event.activity_id, event.actor, event.verb, event.object, event.time_ms, event.target,
        event.dwell_ms or None, event.position if event.position >= 0 else None, None,
        event.undone_verb, undone_ms,
    )  # fmt: skip


def done_later(events: list[Event], after_ms: int) -> list[Event]:
    """The last activities once more, as new ones."""
    again = [event for event in events[-2_000:] if isinstance(event, ActivityEvent)][-600:]
    return [
        replace(event, activity_id=f"later-{n}", time_ms=after_ms + 100 * n)
        for n, event in enumerate(again, 1)
    ]


def told(events: Iterable[Event], policy_text: str, partitions: int = PARTITIONS) -> World:
    """The oracle after all events. (Items come before activities on them, as docs/wire.md asks for.)"""
    world = World(policy_text, partitions)
    for event in events:
        if isinstance(event, ItemEvent):
            title = event.title or None  # docs/wire.md, Item
            embedding = None if event.embedding is None else quantised(event.embedding)
            world.put(Item(event.item_id, event.author, event.created_ms, event.topics, title, embedding))
        else:
            world.act(
                Activity(
                    event.activity_id, event.actor, event.verb, event.object, event.time_ms, event.target,
                    event.dwell_ms or 0, -1 if event.position is None else event.position,
                    event.undone_verb, event.undone_ms or 0,
                )
            )  # fmt: skip
    return world


def quantised(floats: tuple[float, ...]) -> tuple[int, ...] | None:
    """docs/wire.md, How an embedding is stored."""
    x = [struct.unpack("<f", struct.pack("<f", value))[0] for value in floats]
    s = 0.0
    for value in x:
        s += value * value
    padding = (0,) * (EMBEDDING_DIM - len(x))
    return tuple(round(value * 127 / sqrt(s)) for value in x) + padding if s else None


def chosen(settled: Settled) -> list[User]:
    """Users with long histories, with short ones, with many follows, and any others. All of them are active:
    the others have no feed to compare."""
    active = list(settled.active())
    by_records = sorted(active, key=lambda user: (user.records, user.id))
    by_follows = sorted(active, key=lambda user: (len(user.edges("follow", "author")), user.id))
    others = random.Random(3).sample(active, min(GROUP, len(active)))
    many = [*by_records[:GROUP], *by_records[-GROUP:], *by_follows[-GROUP:], *others]
    many += [user for user in active if user.id.startswith("user-")]
    return list({user.id: user for user in many}.values())


def stored(head: dict[str, bytes]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A head in Redis as fields and entries."""
    chunks = sorted((f for f in head if f[0] == "p" and f[1:].isdecimal()), key=lambda f: int(f[1:]))
    entries = [entry for field in chunks for entry in orjson.loads(head[field])]
    fields: dict[str, Any] = {name: head[name].decode() for name in ("version", "policy", "model")}
    fields |= {name: int(head[name]) for name in ("generated_at", "stale_after", "count")}
    if "topics" in head:
        fields["topics"] = orjson.loads(head["topics"])
    assert head.keys() == {*fields, *chunks, "snapshots"}
    return fields, entries


def the_silent_have_no_new_feed(job: Job, silent: set[str], as_of_ms: int) -> None:
    """They keep what the live job made when their last record came; who has nothing reads the fallback."""
    reader = FeedReader.from_url(job.redis_url, namespace=job.namespace)
    for surface in SURFACES:
        heads = job.settled_feeds(surface, 0)
        for user in sorted(silent | {STRANGER}):
            page, head = reader.page(user, surface=surface, record=False), heads.get(user)
            if head is None:
                assert (page.source, page.reason) == ("global", "no_feed"), user
            elif int(head["count"]):
                assert (page.source, page.version) == ("feed", head["version"].decode()), user
                assert Version.parse(page.version).as_of_ms < as_of_ms, user
            else:
                assert (page.source, page.reason) == ("global", "past_the_end"), user
        assert silent & heads.keys()
        assert STRANGER not in heads
    reader.close()


def compare(
    kafka: str, redis_url: str, tmp_path: Path, events: list[Event], policy_text: str, namespace: str
) -> None:
    """The job on two workers, and the oracle: all rows, and feeds of some hundred users."""
    path = tmp_path / "policy.toml"
    path.write_text(policy_text)
    as_of_ms = max(event.time_ms for event in events) + 1_000
    live, settings = f"{namespace}{LIVE}", {"FEEDRANK_POLICY": str(path)}
    with Job(kafka, redis_url, tmp_path, live, settings) as job:
        job.create_topics(PARTITIONS)
        both = job.start_two(PARTITIONS)
        job.load(events)
        world = told(events, policy_text)
        job.settle(as_of_ms)
        assert [len(worker.owns()) for worker in both] == [PARTITIONS // 2] * 2
        assert min(worker.applied() for worker in both) > 0
        assert job.rows(job.names.users_changelog) == world.user_rows()
        assert job.rows(job.names.item_rows_changelog) == world.item_rows()
        heads = {surface: job.settled_feeds(surface, as_of_ms) for surface in SURFACES}
        settled = world.settled(as_of_ms, TICK_MS)
        active = {user.id for user in settled.active()}
        silent = {user for shard in world.shards for user in shard.users} - active
        assert SILENT in silent
        assert heads["for_you"].keys() == heads["following"].keys() == active
        the_silent_have_no_new_feed(job, silent, as_of_ms)
        replays_have_the_same_digest(job, digest(world, settled), settled.as_of_ms)
        later = done_later(events, settled.as_of_ms)
        later_ms = later[-1].time_ms + 1
        a_shadow_catches_up(job, later, later_ms, told([*events, *later], policy_text))
    users = chosen(settled)
    assert len(users) >= USERS_COMPARED_MIN
    for user in users:
        for surface in SURFACES:
            feed = settled.feed(user, surface)
            assert stored(heads[surface][user.id]) == (feed.head, feed.entries), (user.id, surface)


@pytest.mark.kafka
def test_rows_and_feeds_are_those_of_the_oracle(
    public_kafka: str, redis_url: str, tmp_path: Path, data_dir: Path, policy_text: str, namespace: str
) -> None:
    events = with_made_up(list(islice(real_events(data_dir), CUT)))
    compare(public_kafka, redis_url, tmp_path, events, policy_text, namespace)


@pytest.mark.kafka
@pytest.mark.full
def test_rows_and_feeds_of_the_whole_stream_are_those_of_the_oracle(
    public_kafka: str, redis_url: str, tmp_path: Path, data_dir: Path, policy_text: str, namespace: str
) -> None:
    events = with_made_up(list(real_events(data_dir)))
    compare(public_kafka, redis_url, tmp_path, events, policy_text, namespace)
