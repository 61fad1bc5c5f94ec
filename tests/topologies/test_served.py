"""What leaves a worker beside feeds of users: the served log and the fallback feeds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import orjson
import pytest
from aiokafka.errors import KafkaTimeoutError

from models.candidates import SOURCE_NAMES
from models.features import FEATURE_NAMES
from models.policy import Fallbacks as FallbackPolicy
from models.policy import parse_policy
from streams.concerns import KafkaSettings
from streams.feeds import Outcome
from streams.health import Health
from streams.metrics import Metrics
from streams.redis_link import RedisUnavailableError
from tests.both_paths import edited
from tests.topologies.in_process import LocalWorker, run
from tests.topologies.test_emission import worker
from topologies import served as served_module
from topologies.delivery import Delivery
from topologies.fallbacks import Fallbacks
from topologies.feed_making import FeedMaker, MadeFeed
from topologies.served import ServedLog
from wire.chunks import Entries
from wire.names import Namespace
from wire.version import Version

EXPLORING = {"explore_share = 0.02": "explore_share = 0.5"}
FEATURES_FOR_ALL = {"served_features_share = 0.05": "served_features_share = 1.0"}
FEATURES_FOR_NONE = {"served_features_share = 0.05": "served_features_share = 0.0"}


def feeds(*edits: dict[str, str]) -> list[MadeFeed]:
    """Feeds of all who are in memory of shard 0, by another policy."""
    one = worker()
    run(one.catalogue.refresh(5, one.emission.clock.stream_ms))
    policy = parse_policy(edited(*edits))
    maker = FeedMaker(policy, one.catalogue.index, 7)
    state = one.users.shards[0].state
    users = sorted(state.rows.arena.ids)
    made: list[MadeFeed] = []
    for start in range(0, len(users), 64):
        made += maker.make_all([(state, users[start : start + 64])], 5, one.emission.clock.stream_ms)
    return made


# -- records ----------------------------------------------------------------------------------------------


def test_a_record_has_the_coordinates_and_what_was_shown() -> None:
    for made in feeds(EXPLORING, FEATURES_FOR_NONE):
        record = orjson.loads(made.record())
        version = Version.parse(made.feed.version)
        assert record["actor"] == made.feed.user
        assert (record["surface"], record["version"]) == (made.feed.surface, made.feed.version)
        assert (record["position"], record["tick"]) == (version.position, 5)
        assert record["as_of_ms"] == version.as_of_ms == made.feed.generated_at_ms
        assert (record["policy"], record["model"]) == (made.feed.policy, made.feed.model)
        shown = [entry for chunk in made.feed.entries.chunks() for entry in orjson.loads(chunk)]
        assert record["items"] == [entry["id"] for entry in shown]
        assert record["scores"] == [entry["score"] for entry in shown]
        assert len(record["sources"]) == len(record["changed"]) == len(shown)
        assert all(mask > 0 for mask in record["sources"])
        assert record["failed"] == []
        assert int(record["seed"]) >= 0


def test_exploring_slots_carry_a_propensity_and_their_features_others_none() -> None:
    explored = 0
    for made in feeds(EXPLORING, FEATURES_FOR_NONE):
        record = orjson.loads(made.record())
        assert len(record["propensities"]) == len(record["explored"])
        assert all(0 < p <= 1 for p in record["propensities"])
        assert record.get("featured", []) == record["explored"]
        explored += len(record["explored"])
    assert explored > 20


def test_features_are_logged_for_the_share_of_users_that_the_policy_says() -> None:
    for made in feeds(FEATURES_FOR_ALL):
        record = orjson.loads(made.record())
        if made.feed.surface == "for_you" and record["items"]:
            assert record["featured"] == list(range(len(record["items"])))
            assert np.array(record["features"]).shape == (len(FEATURE_NAMES), len(record["items"]))


def test_what_a_slice_was_made_of_is_counted_once() -> None:
    made, metrics = feeds(), Metrics()
    delivery = Delivery(cast(Any, None), cast(Any, None), metrics, Health())
    delivery._count(made, [Outcome.WRITTEN] * len(made))
    delivery._count([], [])
    value = metrics.value
    for bit, name in enumerate(SOURCE_NAMES):
        served = sum(int((one.ranked.source == bit).sum()) for one in made)
        assert value("feedrank_served_items_total", source=name) == served
        proposed = sum(one.ranked.candidates.get(name, 0) for one in made)
        assert value("feedrank_candidates_total", source=name) == proposed
    for surface in {one.feed.surface for one in made}:
        count = sum(one.feed.surface == surface for one in made)
        assert value("feedrank_feeds_total", surface=surface, outcome="written") == count
    for one in made:
        shown = delivery.shown.get(
            np.full(len(one.ranked), one.ranked.user_fp, np.uint64), one.ranked.item_fp
        )
        assert ((shown == one.ranked.source) | (one.feed.surface != made[-1].feed.surface)).all()


# -- the log ----------------------------------------------------------------------------------------------


@dataclass
class Producer:
    """Takes records; `fails` says which sends raise at once."""

    sent: list[tuple[str, bytes, bytes, int]] = field(default_factory=list)
    futures: list[asyncio.Future[object]] = field(default_factory=list)
    fails: bool = False

    async def send(self, topic: str, value: bytes, key: bytes, partition: int) -> asyncio.Future[object]:
        if self.fails:
            raise KafkaTimeoutError
        self.sent.append((topic, value, key, partition))
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]


def log_with(producer: Producer) -> ServedLog:
    log = ServedLog(KafkaSettings(), Namespace("test"), Metrics())
    log._producer = producer
    return log


def test_only_feeds_that_redis_took_are_logged_by_actor_in_the_actors_partition() -> None:
    made = feeds()[:4]
    outcomes = [Outcome.WRITTEN, Outcome.ALREADY, Outcome.REFUSED_OLDER, Outcome.FAILED]
    producer = Producer()
    asyncio.run(log_with(producer).send(3, made, outcomes))
    assert producer.sent == [("feedrank.test.served", made[0].record(), made[0].feed.user.encode(), 3)]


def test_a_record_that_kafka_does_not_take_is_counted_and_emission_goes_on() -> None:
    made = feeds()[:2]

    async def go() -> float:
        producer = Producer(fails=True)
        log = log_with(producer)
        await log.send(0, made, [Outcome.WRITTEN] * 2)
        producer.fails = False
        await log.send(0, made[:1], [Outcome.WRITTEN])
        producer.futures[0].set_exception(KafkaTimeoutError())
        await asyncio.sleep(0)
        assert not log._unsent
        return log.metrics.value("feedrank_served_lost_total")

    assert asyncio.run(go()) == 3


def test_a_broker_far_behind_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_module, "UNSENT_MAX", 1)
    made = feeds()[:2]

    async def go() -> None:
        producer = Producer()
        sending = asyncio.create_task(log_with(producer).send(0, made, [Outcome.WRITTEN] * 2))
        await rounds()
        assert not sending.done()
        producer.futures[1].set_result(None)
        await sending

    asyncio.run(go())


def test_without_a_producer_nothing_happens() -> None:
    log = ServedLog(KafkaSettings(), Namespace("test"), Metrics())
    asyncio.run(log.send(0, feeds()[:1], [Outcome.WRITTEN]))
    asyncio.run(log.stop())


# -- fallbacks --------------------------------------------------------------------------------------------


@dataclass
class FallbackHeads:
    """What was written: (surface, topic) -> (version, generated_at, ids). `meanwhile` runs at each write."""

    feeds: dict[tuple[str, str | None], tuple[str, int, list[str]]] = field(default_factory=dict)
    meanwhile: Any = None

    async def write_fallback(
        self, surface: str, topic: str | None, version: str, generated_at_ms: int, entries: Entries
    ) -> None:
        ids = [entry["id"] for chunk in entries.chunks() for entry in orjson.loads(chunk)]
        self.feeds[surface, topic] = (version, generated_at_ms, ids)
        if self.meanwhile:
            self.meanwhile()


def fallbacks(length: int = 10, topics: int = 4) -> tuple[LocalWorker, FallbackHeads, Fallbacks]:
    one, heads = worker(), FallbackHeads()
    run(one.catalogue.refresh(9, one.emission.clock.stream_ms))
    policy = FallbackPolicy(length, topics, refresh_s=1)
    return one, heads, Fallbacks(one.catalogue, heads, policy, lambda: True)  # type: ignore[arg-type]


def test_fallbacks_are_global_for_both_surfaces_and_by_the_largest_topics() -> None:
    one, heads, feeds_ = fallbacks()
    run(feeds_.write())
    index = one.catalogue.index
    largest = np.argsort(-index.by_topic.items[: len(index.topic_ids)], kind="stable")[:4]
    named = {("for_you", None), ("following", None)} | {("for_you", index.topic_ids[t]) for t in largest}
    assert heads.feeds.keys() == named
    for (_, topic), (version, at_ms, ids) in heads.feeds.items():
        assert Version.parse(version).tick == 9
        assert at_ms == Version.parse(version).as_of_ms == one.catalogue.as_of_ms
        assert len(ids) == len(set(ids)) <= 10
        if topic is not None:
            number = index.topic_ids.index(topic)
            slots = [index.ids.index(identifier) for identifier in ids]
            assert all(number in index.topics[slot] for slot in slots)
    assert feeds_.written_tick == 9


def test_a_refresh_in_between_ends_the_round_and_the_next_one_writes_all() -> None:
    one, heads, feeds_ = fallbacks()

    def refreshed() -> None:
        heads.meanwhile = None
        run(one.catalogue.refresh(10, one.catalogue.as_of_ms + 1))

    heads.meanwhile = refreshed
    run(feeds_.write())
    assert feeds_.written_tick == -1
    assert {Version.parse(version).tick for version, _, _ in heads.feeds.values()} == {9}
    run(feeds_.write())
    assert feeds_.written_tick == 10
    assert {Version.parse(version).tick for version, _, _ in heads.feeds.values()} == {10}


async def rounds() -> None:
    """Enough turns of the loop for anything that does not wait for time."""
    for _ in range(100):
        await asyncio.sleep(0)


def test_only_the_owner_writes_once_per_tick_and_an_outage_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("topologies.fallbacks.POLL_S", 0.0)
    _, heads, feeds_ = fallbacks()
    feeds_.policy = FallbackPolicy(3, 1, refresh_s=0)
    owner, away = [False], [True]
    feeds_.owns = lambda: owner[0]
    tries = 0

    def outage() -> None:
        nonlocal tries
        tries += 1
        if away[0]:
            raise RedisUnavailableError("away", retry_after_s=0)

    heads.meanwhile = outage

    async def go() -> None:
        running = asyncio.create_task(feeds_.run())
        await rounds()
        assert tries == 0
        owner[0] = True
        await rounds()
        assert tries > 1
        away[0] = False
        await rounds()
        assert feeds_.written_tick == 9
        done = tries
        await rounds()
        assert tries == done
        running.cancel()

    asyncio.run(go())


def test_an_empty_index_has_an_empty_fallback() -> None:
    one, heads, feeds_ = fallbacks()
    one.catalogue.index.remove(one.catalogue.index.fp.copy())
    run(feeds_.write())
    assert {tuple(ids) for _, _, ids in heads.feeds.values()} == {()}
