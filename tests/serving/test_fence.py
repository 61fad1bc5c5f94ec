"""The fence in Redis: feeds only move forward, and what a reader is in is kept."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.feed_store import FOR_YOU, FeedStore, entry, version
from wire.chunks import CHUNK_ENTRIES
from wire.version import Version

NOW_MS = 1_700_000_000_000
VERSIONS = st.builds(Version, *[st.integers(0, 3)] * 4).map(str)


@pytest.fixture
def store(redis_url: str, namespace: str) -> FeedStore:
    return FeedStore(redis_url, namespace)


def head(store: FeedStore, user: str) -> dict[str, str]:
    found = store.redis.hgetall(store.names.feed(FOR_YOU, user))
    return {k.decode(): v.decode() for k, v in found.items()}  # type: ignore[union-attr]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(writes=st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_any_order_of_writes_ends_at_the_greatest_version(store: FeedStore, writes: list[int]) -> None:
    user = uuid.uuid4().hex
    greatest = -1
    for number in writes:
        code = store.write(user, number, [entry(f"i{number}")], NOW_MS)
        assert code == (1 if number > greatest else 0 if number == greatest else -1)
        greatest = max(greatest, number)
        now = head(store, user)
        assert now["version"] == version(greatest)
        assert f'"i{greatest}"' in now["p0"]


@given(a=VERSIONS, b=VERSIONS)
def test_versions_sort_as_text_as_their_numbers_do(a: str, b: str) -> None:
    assert (a < b) == (Version.parse(a) < Version.parse(b))


def test_a_zombie_of_an_older_generation_is_refused(store: FeedStore) -> None:
    store.write("ann", 1, [entry("new")], NOW_MS, generation=2)
    assert store.write("ann", 999, [entry("old")], NOW_MS, generation=1) == -1
    assert '"new"' in head(store, "ann")["p0"]


def test_a_shorter_feed_leaves_no_chunk_of_the_longer_one(store: FeedStore) -> None:
    long = [entry(f"i{i}") for i in range(3 * CHUNK_ENTRIES)]
    store.write("ann", 1, long, NOW_MS, topics='["jazz"]')
    assert {"p0", "p1", "p2", "topics"} <= head(store, "ann").keys()
    store.write("ann", 2, long[:1], NOW_MS)
    assert head(store, "ann").keys() == {
        *("version", "generated_at", "stale_after", "policy", "model", "count", "snapshots", "p0")
    }


def test_the_head_goes_when_nobody_renews_it(store: FeedStore) -> None:
    store.write("ann", 1, [entry("i")], NOW_MS)
    assert 0 < store.redis.ttl(store.names.feed(FOR_YOU, "ann")) <= 600  # type: ignore[operator]


def test_a_head_that_nobody_reads_is_not_kept(store: FeedStore) -> None:
    store.write("ann", 1, [entry("i")], NOW_MS)
    store.write("ann", 2, [entry("j")], NOW_MS)
    assert not store.redis.exists(store.names.snapshot(FOR_YOU, "ann", version(1)))


def test_a_pinned_head_is_kept_for_a_quarter_of_an_hour_and_the_pin_is_used_up(store: FeedStore) -> None:
    store.write("ann", 1, [entry("i")], NOW_MS)
    store.redis.set(store.names.pin(FOR_YOU, "ann"), 1, ex=900)
    store.write("ann", 2, [entry("j")], NOW_MS)
    store.write("ann", 3, [entry("k")], NOW_MS)
    kept = store.names.snapshot(FOR_YOU, "ann", version(1))
    assert store.redis.hget(kept, "version") == version(1).encode()
    assert 890 < store.redis.ttl(kept) <= 900  # type: ignore[operator]
    assert not store.redis.exists(store.names.snapshot(FOR_YOU, "ann", version(2)))


def test_a_refused_write_does_not_use_up_the_pin(store: FeedStore) -> None:
    store.write("ann", 5, [entry("i")], NOW_MS)
    store.redis.set(store.names.pin(FOR_YOU, "ann"), 1)
    store.write("ann", 4, [entry("j")], NOW_MS)
    store.write("ann", 6, [entry("k")], NOW_MS)
    assert store.redis.exists(store.names.snapshot(FOR_YOU, "ann", version(5)))


def test_the_last_two_snapshots_are_kept(store: FeedStore) -> None:
    for number in range(1, 6):
        store.write("ann", number, [entry(f"i{number}")], NOW_MS)
        store.redis.set(store.names.pin(FOR_YOU, "ann"), 1)
    there = [n for n in range(1, 5) if store.redis.exists(store.names.snapshot(FOR_YOU, "ann", version(n)))]
    assert there == [3, 4]


@pytest.mark.parametrize("user", ["a}b", "{", "a:b", "ü ser", "x" * 128])
def test_any_id_has_keys_of_its_own(store: FeedStore, user: str) -> None:
    assert store.write(user, 1, [entry("i")], NOW_MS) == 1
    assert head(store, user)["version"] == version(1)
