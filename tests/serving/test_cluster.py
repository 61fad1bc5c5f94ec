"""The same writer and readers on a Redis Cluster: one node that owns all slots. It refuses commands and
scripts over several slots as a larger one does; what it can't show is redirection between nodes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
import redis

from serving.reader import AsyncFeedReader, FeedReader
from streams.concerns import RedisSettings
from streams.feeds import FeedToWrite, FeedWriter, Outcome
from streams.route_board import RouteBoard, canary
from tests.conftest import absent
from tests.services import Redis, ServiceMissing, free_port, redis_binary
from tests.waiting import GUARD_S, Patience
from wire.chunks import Entries, Entry
from wire.names import Namespace
from wire.route import Split
from wire.version import Version

SLOTS = 16_384
BUS_OFFSET = 10_000
USERS = ["ann", "bob", "cecilia", "a}b", "{x}y", "ü"]
NAMES = Namespace("live")


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node with all slots (about 2 s until it agrees with itself)."""
    folder = tmp_path_factory.mktemp("cluster")
    try:
        binary = redis_binary()
    except ServiceMissing as missing:
        absent(missing)
    port = free_port()
    while port > 65_535 - BUS_OFFSET:
        port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    command += ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"]
    server = Redis(command, port, folder / "redis.log")
    server.start()
    node = redis.Redis(port=port)
    node.execute_command("CLUSTER ADDSLOTS", *range(SLOTS))
    patience = Patience("the node takes its slots", None, GUARD_S)
    while node.execute_command("CLUSTER INFO")["cluster_state"] != "ok":  # type: ignore[index]
        patience.last()
        time.sleep(0.05)
    node.close()
    yield server.url
    server.kill()


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
