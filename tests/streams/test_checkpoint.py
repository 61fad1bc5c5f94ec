"""Checkpoints on a real broker: rows, messages and position in one; one owner; no outcome is guessed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from aiokafka.errors import KafkaTimeoutError

from streams.batch import RecordBatch
from streams.checkpoint import BEHIND_S, Checkpointer, ShardLost, ShardNames, next_due
from streams.concerns import KafkaSettings
from streams.durable import POSITION_KEY
from streams.errors import ExitCode, OperatorError
from streams.shard import Shard
from streams.store import ShardStore
from tests.conftest import MakeTopic
from tests.streams.counters import Counters, add
from tests.streams.fakes import (
    Worker,
    checkpoints,
    committed,
    expected,
    numbers,
    produce,
    read_all,
    rows_of,
    until,
)

pytestmark = pytest.mark.kafka


@pytest.fixture
def source(make_topic: MakeTopic) -> str:
    name = make_topic("in")
    make_topic("in-changelog", cleanup_policy="compact")
    return name


def position_in(rows: dict[bytes | None, bytes | None]) -> dict[str, int]:
    found: dict[str, int] = orjson.loads(rows.get(POSITION_KEY) or b"{}")
    return found


async def at_position(kafka: str, source: str, position: int) -> dict[str, int]:
    """The position record, once it says so."""
    rows = await committed(
        kafka, f"{source}-changelog", lambda rows: position_in(rows).get("position") == position
    )
    return position_in(rows)


def test_rows_messages_and_position_become_visible_together(
    kafka: str, source: str, make_topic: MakeTopic, tmp_path: Path
) -> None:
    out = make_topic("out")

    async def story() -> None:
        records = numbers(250)
        end = await produce(kafka, source, records)
        async with Worker(kafka, source, tmp_path, out=out) as worker:
            await worker.applied(end)
            assert await read_all(kafka, f"{source}-changelog") == []
            await worker.shards.open[0].cut_now()
            changelog = await committed(kafka, f"{source}-changelog", lambda rows: POSITION_KEY in rows)
            position = orjson.loads(changelog.pop(POSITION_KEY) or b"")
            assert {k: tuple(orjson.loads(v or b"")) for k, v in changelog.items()} == expected(records)
            assert position == {"position": 250, "epoch": 1}
            [message] = (await committed(kafka, out, bool)).values()
            assert orjson.loads(message or b"") == {"partition": 0, "since": 250, "position": 250}
            assert worker.feeder.done == {0: 250}

    asyncio.run(story())


def test_nothing_new_is_not_committed(kafka: str, source: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with Worker(kafka, source, tmp_path) as worker:
            await worker.shards.open[0].cut_now()
            await worker.shards.open[0].cut_now()
            await at_position(kafka, source, 0)
            assert worker.watcher.outcomes == ["committed"]

    asyncio.run(story())


def test_checkpoints_come_by_themselves_and_rows_reach_rocksdb(
    kafka: str, source: str, tmp_path: Path
) -> None:
    async def story() -> None:
        end = await produce(kafka, source, numbers(50))
        async with Worker(kafka, source, tmp_path, settings=checkpoints(20, 30)) as worker:
            shard = worker.shards.open[0]
            await until(lambda: worker.feeder.done.get(0) == end)
            await until(lambda: shard.store.meta.changelog_next >= 8)
            assert shard.store.get(b"k0") == orjson.dumps(expected(numbers(50))[b"k0"])

    asyncio.run(story())


def test_ingest_goes_on_while_a_checkpoint_is_in_flight(
    kafka: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        end = await produce(kafka, source, numbers(10))
        async with Worker(kafka, source, tmp_path) as worker:
            await worker.applied(end)
            shard = worker.shards.open[0]
            held, go = asyncio.Event(), asyncio.Event()
            transact = shard.checkpoints._transact

            async def slowly(*made: object) -> tuple[int, int]:
                held.set()
                await go.wait()
                return await transact(*made)  # type: ignore[arg-type]

            monkeypatch.setattr(shard.checkpoints, "_transact", slowly)
            committing = asyncio.create_task(shard.cut_now())
            assert worker.shards.waiting() == {}
            await held.wait()
            assert list(worker.shards.waiting()) == [0]
            end = await produce(kafka, source, numbers(20)[10:])
            await worker.applied(end)
            go.set()
            await committing
            assert worker.shards.waiting() == {}
            assert await at_position(kafka, source, 10)
            await shard.cut_now()
            assert await at_position(kafka, source, 20)
            assert rows_of(shard.state) == expected(numbers(20))

    asyncio.run(story())


def test_a_second_owner_fences_the_first_and_takes_what_was_committed(
    kafka: str, source: str, tmp_path: Path
) -> None:
    async def story() -> None:
        records = numbers(40)
        end = await produce(kafka, source, records[:20])
        async with Worker(kafka, source, tmp_path / "a") as old:
            await old.applied(end)
            await old.shards.open[0].cut_now()
            end = await produce(kafka, source, records[20:])
            await old.applied(end)  # applied, not committed
            old.feeder.member = False
            async with Worker(kafka, source, tmp_path / "b") as new:
                assert new.shards.open[0].checkpoints.epoch == 2
                assert new.feeder.seeks[-1] == (source, 0, 20)
                await new.applied(end)
                with pytest.raises(ShardLost) as lost:
                    await old.shards.open[0].cut_now()
                assert lost.value.outcome == "fenced"
                await new.shards.open[0].cut_now()
                assert rows_of(new.shards.open[0].state) == expected(records)
            assert await at_position(kafka, source, 40) == {"position": 40, "epoch": 2}
            assert old.failures == []

    asyncio.run(story())


def test_a_zombie_that_the_group_does_not_know_stays_closed(kafka: str, source: str, tmp_path: Path) -> None:
    async def story() -> None:
        end = await produce(kafka, source, numbers(5))
        async with Worker(kafka, source, tmp_path / "a", settings=checkpoints(50)) as old:
            await old.applied(end)
            old.feeder.member = False
            async with Worker(kafka, source, tmp_path / "b") as new:
                end = await produce(kafka, source, numbers(5))
                await until(lambda: bool(old.watcher.losses))
                await new.applied(end)
                await new.shards.open[0].cut_now()
                assert old.shards.open == {}
                assert new.watcher.outcomes == ["committed"]

    asyncio.run(story())


@pytest.mark.parametrize("arrived", [True, False])
def test_an_unknown_outcome_is_looked_up_and_never_sent_again(
    kafka: str,
    source: str,
    make_topic: MakeTopic,
    tmp_path: Path,
    arrived: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = make_topic("out")

    async def story() -> None:
        records = numbers(60)
        await produce(kafka, source, records[:30])
        async with Worker(kafka, source, tmp_path, out=out, settings=checkpoints(20)) as worker:
            await worker.applied(30)
            await until(lambda: worker.feeder.done.get(0) == 30)
            shard = worker.shards.open[0]
            producer = shard.checkpoints._producer
            assert producer is not None
            commit = producer.commit_transaction

            async def lose_the_answer() -> None:
                if arrived:
                    await commit()
                raise KafkaTimeoutError("no answer")

            monkeypatch.setattr(producer, "commit_transaction", lose_the_answer)
            await produce(kafka, source, records[30:])
            await until(lambda: "unknown" in worker.watcher.outcomes)
            await worker.applied(60)
            await until(lambda: worker.feeder.done.get(0) == 60)
            reopened = worker.shards.open[0]
            assert reopened is not shard
            assert shard.closed
            assert rows_of(reopened.state) == expected(records)
            await at_position(kafka, source, 60)
            said = [orjson.loads(value or b"")["since"] for _, value in await read_all(kafka, out)]
            assert sum(said) == 60
            assert worker.failures == []

    asyncio.run(story())


def test_a_shard_that_comes_back_waits_since_its_first_checkpoint_that_failed(
    kafka: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        await produce(kafka, source, numbers(5))
        async with Worker(kafka, source, tmp_path) as worker:
            await worker.applied(5)
            shards, waits = worker.shards, list[dict[int, float]]()
            lost = shards.open[0].checkpoints

            async def lose_the_answer(*made: object) -> tuple[int, int]:
                raise KafkaTimeoutError("no answer")

            async def note(*place: object) -> bool:
                waits.append(shards.waiting())
                return True

            monkeypatch.setattr(lost, "_transact", lose_the_answer)
            monkeypatch.setattr(worker.feeder, "is_member", note)
            with pytest.raises(ShardLost) as caught:
                await lost.cut_now()
            shards._ended(shards.open[0], caught.value)
            await until(lambda: 0 in shards.open and not shards._reopening)
            assert waits == [shards.waiting()] == [{0: lost.waits_since_s}]
            await worker.applied(5)
            await shards.open[0].cut_now()
            assert shards.waiting() == {}

    asyncio.run(story())


def test_a_shard_is_behind_while_much_of_its_log_waits(
    kafka: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.shards.BEHIND_RECORDS", 100)

    async def story() -> None:
        end = await produce(kafka, source, numbers(250))
        go_on = asyncio.Event()

        async def add_when_told(shard: Shard[Counters], batch: RecordBatch) -> None:
            await go_on.wait()
            await add(shard, batch)

        async with Worker(kafka, source, tmp_path, apply=add_when_told) as worker:
            await until(lambda: worker.shards.open[0].highwater == end)
            behind = worker.shards.open[0].checkpoints.behind
            assert behind()
            go_on.set()
            await worker.applied(end)
            assert not behind()

    asyncio.run(story())


def test_checkpoints_of_a_shard_that_is_behind_are_far_apart() -> None:
    assert next_due(10.0, 10.2, 1.0, behind=False) == 11.0
    assert next_due(10.0, 12.0, 1.0, behind=False) == 12.5  # late, and yet a pause
    assert next_due(10.0, 10.2, 1.0, behind=True) == 10.2 + BEHIND_S
    assert next_due(10.0, 10.2, 60.0, behind=True) == 70.2  # the setting may say more


def test_a_message_that_no_broker_takes_ends_the_worker_with_advice(
    kafka: str, make_topic: MakeTopic, tmp_path: Path
) -> None:
    source = make_topic("in")
    make_topic("in-changelog", cleanup_policy="compact", max_message_bytes="100")

    async def story() -> None:
        await produce(kafka, source, numbers(50))
        async with Worker(kafka, source, tmp_path, settings=checkpoints(20)) as worker:
            await until(lambda: bool(worker.failures))
            [error] = worker.failures
            assert isinstance(error, OperatorError)
            assert error.exit_code is ExitCode.TOPICS_WRONG
            assert "raise max.message.bytes" in error.message

    asyncio.run(story())


def test_a_broker_that_does_not_answer_the_fence_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        kafka = KafkaSettings(
            KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", REQUEST_TIMEOUT_MS=1_000, SESSION_TIMEOUT_MS=1_000
        )
        store = ShardStore(tmp_path / "s")
        checkpointer = Checkpointer(
            ShardNames("in", "in-changelog", 0, "test.in.0"), Counters(0), store, kafka, checkpoints()
        )
        with pytest.raises(OperatorError, match=r"Kafka at 127\.0\.0\.1:1 did not accept") as caught:
            await checkpointer.fence()
        assert caught.value.exit_code is ExitCode.BROKER_UNREACHABLE
        await checkpointer.close()
        store.close()

    asyncio.run(story())
