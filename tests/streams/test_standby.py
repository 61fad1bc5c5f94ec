"""Copies of other workers' shards: kept up, taken over, let go, and never in the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streams.durable import POSITION_KEY, Position
from streams.store import ShardStore
from tests.conftest import MakeTopic
from tests.streams.fakes import Worker, expected, numbers, produce, rows_of, until


@pytest.fixture
def source(make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("streams.standby.POLL_S", 0.05)
    monkeypatch.setattr("streams.standby.RETRY_S", 0.05)
    name = make_topic("in")
    make_topic("in-changelog", cleanup_policy="compact")
    return name


async def standing_by(kafka: str, source: str, path: Path) -> Worker:
    """A worker that owns nothing and copies all."""
    worker = Worker(kafka, source, path, partitions=0, standby=True)
    return await worker.__aenter__()


async def committed(worker: Worker, kafka: str, source: str, records: list[tuple[bytes, bytes]]) -> int:
    end = await produce(kafka, source, records)
    await worker.applied(end)
    await worker.shards.open[0].cut_now()
    return end


def position(worker: Worker) -> int:
    """Where the copy stands in the source; -1 while there is none."""
    standby = worker.shards._standby
    assert standby is not None
    copy = standby._copies.get(0)
    found = copy.store.get(POSITION_KEY) if copy is not None else None
    return -1 if found is None else Position.decode(found).offset


@pytest.mark.kafka
def test_a_takeover_replays_only_what_its_copy_lacks(kafka: str, source: str, tmp_path: Path) -> None:
    async def story() -> None:
        records = numbers(400)
        async with Worker(kafka, source, tmp_path / "owner") as owner:
            await committed(owner, kafka, source, records[:100])
            other = await standing_by(kafka, source, tmp_path / "other")
            await until(lambda: position(other) == 100)
            end = await committed(owner, kafka, source, records[100:300])
            await until(lambda: position(other) == end)
            await owner.abandon()
        end = await produce(kafka, source, records[300:])
        await other.__aexit__()
        async with Worker(kafka, source, tmp_path / "other") as heir:
            assert heir.watcher.recoveries == [0]
            assert heir.shards.open[0].checkpoints.epoch == 2
            await heir.applied(end)
            assert rows_of(heir.shards.open[0].state) == expected(records)

    asyncio.run(story())


@pytest.mark.kafka
def test_a_shard_that_was_given_away_is_followed_from_where_it_was(
    kafka: str, source: str, tmp_path: Path
) -> None:
    async def story() -> None:
        records = numbers(300)
        first = Worker(kafka, source, tmp_path / "first", standby=True)
        await first.__aenter__()
        await committed(first, kafka, source, records[:100])
        await first.shards.revoke([0], 5.0)
        await first.shards.recover([])
        async with Worker(kafka, source, tmp_path / "second") as second:
            end = await committed(second, kafka, source, records[100:200])
            await until(lambda: position(first) == end)
            await until(lambda: first.watcher.copies == 1)
            await second.abandon()
        await first.shards.recover([0])
        assert first.watcher.copies == 0
        assert first.watcher.recoveries == [0, 0]
        end = await produce(kafka, source, records[200:])
        await first.applied(end)
        assert rows_of(first.shards.open[0].state) == expected(records)
        await first.__aexit__()

    asyncio.run(story())


@pytest.mark.kafka
def test_a_copy_that_knows_more_than_the_changelog_is_made_anew(
    kafka: str, source: str, tmp_path: Path
) -> None:
    async def story() -> None:
        store = ShardStore(tmp_path / "other" / "counters-0")
        store.write([(b"knobody", b"a row of a topic that was deleted")], 1_000)
        store.close()
        async with Worker(kafka, source, tmp_path / "owner") as owner:
            end = await committed(owner, kafka, source, numbers(50))
            other = await standing_by(kafka, source, tmp_path / "other")
            await until(lambda: position(other) == end)
            standby = other.shards._standby
            assert standby is not None
            assert standby._copies[0].store.get(b"knobody") is None
            await other.__aexit__()

    asyncio.run(story())


@pytest.mark.kafka
def test_a_directory_that_is_held_is_said_and_tried_again(
    kafka: str, source: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def story() -> None:
        async with Worker(kafka, source, tmp_path / "owner") as owner:
            end = await committed(owner, kafka, source, numbers(50))
            held = ShardStore(tmp_path / "other" / "counters-0")
            other = await standing_by(kafka, source, tmp_path / "other")
            await until(lambda: "not kept up" in caplog.text)
            assert not other.failures
            held.close()
            await until(lambda: position(other) == end)
            assert caplog.text.count("not kept up") == 1  # however often it was tried
            await until(lambda: "kept up again" in caplog.text)
            await other.__aexit__()

    asyncio.run(story())
