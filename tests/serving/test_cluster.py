"""The same writer and readers on a Redis Cluster of three nodes that share the slots, and move them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from serving.reader import AsyncFeedReader, FeedReader
from streams.concerns import RedisSettings
from streams.feed_heads import FeedHeads
from streams.feeds import FeedToWrite, FeedWriter, Outcome, RedisUnavailableError
from streams.route_board import RouteBoard, canary
from tests.conftest import absent
from tests.services import ServiceMissing
from tests.serving.redis_cluster import NODES, Cluster, three_nodes
from wire.chunks import Entries, Entry
from wire.names import Namespace
from wire.route import Split
from wire.scripts import FENCE
from wire.version import Version

USERS = ["ann", "bob", "cecilia", "a}b", "{x}y", "ü"]
EVERYBODY = [f"user-{n}" for n in range(300)]
NAMES = Namespace("live")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    try:
        with three_nodes(folder) as nodes:
            yield nodes
    except ServiceMissing as missing:
        absent(missing)


@pytest.fixture
def cluster_url(cluster: Cluster) -> str:
    for node in cluster.nodes:
        node.flushall()
    return cluster.url


@pytest.fixture
def settings(cluster_url: str) -> RedisSettings:
    return RedisSettings(REDIS_URL=cluster_url, REDIS_CLUSTER="true")  # type: ignore[call-arg]


def feed(user: str, number: int, prefix: str = "a") -> FeedToWrite:
    rows = Entries.of([Entry(f"{prefix}{i}", "ann", 1, 0.5, "trending") for i in range(30)])
    now_ms = time.time_ns() // 1_000_000
    return FeedToWrite(user, "for_you", str(Version(1, number, 0, 0)), now_ms, now_ms, "p", "m", rows)


def test_writer_and_readers_do_on_a_cluster_what_they_do_on_a_server(cluster_url: str) -> None:
    asyncio.run(_write_and_read(cluster_url))


async def _write_and_read(url: str) -> None:
    writer = FeedWriter(RedisSettings(REDIS_URL=url, REDIS_CLUSTER="true"), NAMES)  # type: ignore[call-arg]
    reader = AsyncFeedReader.from_url(url, cluster=True)
    sync = FeedReader.from_url(url, cluster=True)
    await writer.start()
    assert writer.losses == 1
    assert await writer.write([feed(u, 1) for u in USERS]) == [Outcome.WRITTEN] * len(USERS)
    assert await writer.write([feed(u, 1) for u in USERS]) == [Outcome.ALREADY] * len(USERS)
    first = {user: await reader.page(user, limit=10) for user in USERS}
    assert await writer.write([feed(u, 2, "b") for u in USERS]) == [Outcome.WRITTEN] * len(USERS)
    assert await writer.read_versions("for_you", USERS) == [feed("", 2).version] * len(USERS)
    assert await writer.write([feed(u, 1) for u in USERS]) == [Outcome.REFUSED_OLDER] * len(USERS)
    for user in USERS:
        page = sync.page(user, limit=10, cursor=first[user].cursor)
        assert [e.id for e in page.entries] == [f"a{i}" for i in range(10, 20)], "the snapshot is kept"
    fallback = feed("", 3, "w")
    await writer.write_fallback("for_you", None, fallback.version, 0, fallback.entries)
    assert (await reader.page("nobody", limit=1)).source == "global"
    await reader.hide("ann", "author", "ann")
    assert (await reader.page("ann", limit=5)).entries == ()
    assert writer.losses == 1
    await writer.close()
    await reader.close()
    sync.close()


def test_the_one_id_that_has_no_slot_fails_alone(cluster_url: str) -> None:
    async def run() -> list[Outcome]:
        writer = FeedWriter(RedisSettings(REDIS_URL=cluster_url, REDIS_CLUSTER="true"), NAMES)  # type: ignore[call-arg]
        try:
            return await writer.write([feed("x", 9), feed("}x", 9), feed("y", 9)])
        finally:
            await writer.close()

    assert asyncio.run(run()) == [Outcome.WRITTEN, Outcome.FAILED, Outcome.WRITTEN]


def test_the_route_is_read_on_a_cluster(cluster_url: str) -> None:
    settings = RedisSettings(REDIS_URL=cluster_url, REDIS_CLUSTER="true")  # type: ignore[call-arg]
    with RouteBoard(settings, "live") as board:
        board.change(lambda route: canary(route, Split("shadow", 1.0, "s"), 1, "ann"))
    sync = FeedReader.from_url(cluster_url, cluster=True)
    assert sync.page("bob").namespace == "shadow"
    sync.close()


class Both:
    """A writer and both readers of a Cluster."""

    def __init__(self, settings: RedisSettings) -> None:
        self.writer = FeedWriter(settings, NAMES)
        self.reader = AsyncFeedReader.from_url(settings.address, cluster=True)
        self.sync = FeedReader.from_url(settings.address, cluster=True)

    async def __aenter__(self) -> Both:
        await self.writer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.writer.close()
        await self.reader.close()
        self.sync.close()

    async def write(self, users: list[str], number: int) -> set[Outcome]:
        return set(await self.writer.write([feed(user, number) for user in users]))

    async def read(self, users: list[str], number: int) -> None:
        """Both readers find this version."""
        version = feed("", number).version
        for user in users:
            for page in (await self.reader.page(user, record=False), self.sync.page(user, record=False)):
                assert (page.source, page.version) == ("feed", version), user
                assert len(page.entries) == 20


def by_node(cluster: Cluster) -> dict[int, list[str]]:
    """Everybody by the node that has their feeds."""
    found: dict[int, list[str]] = {number: [] for number in range(NODES)}
    for user in EVERYBODY:
        found[cluster.node_of(NAMES.feed("for_you", user))].append(user)
    return found


def test_feeds_on_all_nodes_are_written_in_pipelines_and_read(
    cluster: Cluster, settings: RedisSettings
) -> None:
    async def run() -> None:
        users = by_node(cluster)
        assert min(map(len, users.values())) > 50
        async with Both(settings) as both:
            assert await both.write(EVERYBODY, 1) == {Outcome.WRITTEN}
            await both.read([user for some in users.values() for user in some[:5]], 1)
            found = await both.writer.read_versions("for_you", EVERYBODY)
            assert set(found) == {feed("", 1).version}
        for number, node in enumerate(cluster.nodes):
            keys = {NAMES.feed("for_you", user).encode() for user in users[number]}
            assert set(node.keys("feed:live:for_you:{*}")) == keys
        with FeedHeads(settings) as heads:
            assert set(heads.users(NAMES, "for_you")) == set(EVERYBODY)
            stored = heads.read(NAMES, "for_you", EVERYBODY)
            assert len([one for one in stored if one is not None]) == len(EVERYBODY)

    asyncio.run(run())


def test_a_node_that_forgot_the_script_is_told_it_again(cluster: Cluster, settings: RedisSettings) -> None:
    async def run() -> None:
        users = by_node(cluster)
        async with Both(settings) as both:
            assert await both.write(EVERYBODY, 1) == {Outcome.WRITTEN}
            cluster.nodes[1].script_flush()
            assert [node.script_exists(FENCE.sha)[0] for node in cluster.nodes] == [True, False, True]
            assert await both.write(EVERYBODY, 2) == {Outcome.WRITTEN}
            assert [node.script_exists(FENCE.sha)[0] for node in cluster.nodes] == [True] * NODES
            await both.read([user for some in users.values() for user in some[:2]], 2)

    asyncio.run(run())


def test_a_single_node_that_lost_its_feeds_is_noticed_once(
    cluster: Cluster, settings: RedisSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.feeds.PRESENCE_CHECK_S", 0.0)

    async def run() -> None:
        users = by_node(cluster)
        async with Both(settings) as both:
            assert await both.write(EVERYBODY, 1) == {Outcome.WRITTEN}
            assert [bool(node.keys("feedrank:present:live:*")) for node in cluster.nodes] == [True] * NODES
            for losses, number in enumerate(range(NODES), 2):
                cluster.nodes[number].flushall()
                await both.writer.look()
                await both.writer.look()
                assert both.writer.losses == losses
                assert both.sync.page(users[number][0]).reason == "no_feed"

    asyncio.run(run())


def test_a_slot_that_was_moved_is_found_where_it_is(cluster: Cluster, settings: RedisSettings) -> None:
    async def run() -> None:
        users = [f"moved-{n}" for n in range(6)]
        async with Both(settings) as both:
            await both.write(users, 1)
            await both.read(users, 1)  # all know by now where the slots are
            for number, user in enumerate(users, 1):
                slot = cluster.slot(NAMES.feed("for_you", user))
                to = (cluster.owners[slot] + 1) % NODES
                cluster.nodes[to].script_flush()
                cluster.move(slot, to)
                if number % 2:
                    assert both.sync.page(user, record=False).version == feed("", number).version
                    assert (await both.reader.page(user, record=False)).source == "feed"
                assert await both.write(users, number + 1) == {Outcome.WRITTEN}
                assert cluster.nodes[to].hget(NAMES.feed("for_you", user), "version")
                await both.read(users, number + 1)

    asyncio.run(run())


def test_a_feed_whose_slot_is_on_its_way_waits_and_is_not_lost(
    cluster: Cluster, settings: RedisSettings
) -> None:
    """Whoever reads it is at a pinned version, so the fence needs keys that are on one node and on none."""

    async def run() -> None:
        users, head, pin = ["ann", "bob"], NAMES.feed("for_you", "ann"), NAMES.pin("for_you", "ann")
        slot = cluster.slot(head)
        source, to = cluster.owners[slot], (cluster.owners[slot] + 1) % NODES
        async with Both(settings) as both:
            await both.write(users, 1)
            cluster.nodes[source].set(pin, 1)
            cluster.begin_move(slot, to)
            with pytest.raises(RedisUnavailableError, match="a slot of the Cluster is being moved"):
                await both.write(users, 2)
            cluster.carry(slot, to, head.encode(), head)
            with pytest.raises(RedisUnavailableError, match="a slot of the Cluster is being moved"):
                await both.write(users, 2)
            assert both.sync.page("ann", record=False).version == feed("", 1).version
            cluster.carry(slot, to)
            with pytest.raises(RedisUnavailableError, match="a slot of the Cluster is being moved"):
                await both.write(users, 2)
            await both.read(["ann"], 1)
            cluster.end_move(slot, to)
            assert await both.write(users, 2) <= {Outcome.WRITTEN, Outcome.ALREADY}
            await both.read(users, 2)

    asyncio.run(run())
