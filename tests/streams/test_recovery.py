"""Recovery on a real broker: whatever was committed comes back, once, wherever it was left."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

import streams.catch_up
from streams.batch import RecordBatch
from streams.durable import POSITION_KEY
from streams.errors import ExitCode, OperatorError
from streams.recovery import EMPTY_ANSWERS_MIN, Arrival, ChangelogReader, Replay
from streams.shard import Shard
from streams.store import AGE_MS_MAX, ShardStore
from tests.conftest import MakeTopic
from tests.streams.counters import Counters, add
from tests.streams.fakes import Worker, expected, kafka_at, numbers, produce, rows_of, until


@pytest.fixture
def source(make_topic: MakeTopic) -> str:
    name = make_topic("in")
    make_topic("in-changelog", cleanup_policy="compact")
    return name


async def commit(kafka: str, source: str, path: Path, records: list[tuple[bytes, bytes]], flush: bool) -> int:
    """A worker applies and commits the records, then dies; with `flush` RocksDB has them."""
    end = await produce(kafka, source, records)
    worker = Worker(kafka, source, path)
    await worker.__aenter__()
    await worker.applied(end)
    shard = worker.shards.open[0]
    await (shard.flush_now() if flush else shard.cut_now())
    await worker.abandon()
    return end


@pytest.mark.kafka
def test_a_new_shard_begins_where_the_log_begins(kafka: str, source: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with Worker(kafka, source, tmp_path) as worker:
            assert worker.feeder.seeks == [(source, 0, 0)]
            assert worker.opened == [0]
            assert worker.watcher.recoveries == [0]
            assert worker.shards.open[0].checkpoints.epoch == 1

    asyncio.run(story())


@pytest.mark.kafka
@pytest.mark.parametrize(("flush", "wipe"), [(False, False), (True, False), (True, True)])
def test_rows_come_back_from_disk_and_changelog(
    kafka: str, source: str, tmp_path: Path, flush: bool, wipe: bool
) -> None:
    async def story() -> None:
        records = numbers(300)
        await commit(kafka, source, tmp_path, records[:100], flush)
        await commit(kafka, source, tmp_path, records[100:200], False)
        if wipe:
            shutil.rmtree(tmp_path)
        end = await produce(kafka, source, records[200:])
        async with Worker(kafka, source, tmp_path) as worker:
            replayed = worker.watcher.recoveries[0]
            assert replayed == (8 if flush and not wipe else 16)
            assert worker.shards.open[0].checkpoints.epoch == 3
            await worker.applied(end)
            assert rows_of(worker.shards.open[0].state) == expected(records)

    asyncio.run(story())


@pytest.mark.kafka
def test_what_was_applied_and_not_committed_is_read_again(kafka: str, source: str, tmp_path: Path) -> None:
    async def story() -> None:
        records = numbers(100)
        await commit(kafka, source, tmp_path, records[:50], False)
        end = await produce(kafka, source, records[50:])
        worker = Worker(kafka, source, tmp_path)
        await worker.__aenter__()
        await worker.applied(end)
        await worker.abandon()
        async with Worker(kafka, source, tmp_path) as again:
            assert again.feeder.seeks == [(source, 0, 50)]
            await again.applied(end)
            assert rows_of(again.shards.open[0].state) == expected(records)

    asyncio.run(story())


@pytest.mark.kafka
def test_a_flush_cut_short_is_mended(kafka: str, source: str, tmp_path: Path) -> None:
    async def story() -> None:
        records = numbers(120)
        await commit(kafka, source, tmp_path, records[:60], True)
        await commit(kafka, source, tmp_path, records[60:], False)
        newer = expected(records)
        store = ShardStore(tmp_path / "counters-0")
        store.write([(key, orjson.dumps(newer[key])) for key in list(newer)[:3]])
        store.close()
        async with Worker(kafka, source, tmp_path) as worker:
            assert rows_of(worker.shards.open[0].state) == newer

    asyncio.run(story())


@pytest.mark.kafka
def test_aborted_transactions_at_the_tail_are_passed_over(kafka: str, source: str, tmp_path: Path) -> None:
    async def story() -> None:
        records = numbers(30)
        await commit(kafka, source, tmp_path, records, False)
        producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{source}-other")
        async with producer:
            for _ in range(3):
                await producer.begin_transaction()
                await producer.send_and_wait(f"{source}-changelog", b"[9,9,9]", b"k1", partition=0)
                await producer.abort_transaction()
        async with Worker(kafka, source, tmp_path) as worker:
            assert rows_of(worker.shards.open[0].state) == expected(records)

    asyncio.run(story())


@pytest.mark.kafka
def test_a_large_replay_goes_to_rocksdb_on_the_way(
    kafka: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams.catch_up, "RESTORED_BYTES_MAX", 10)

    async def story() -> None:
        records = numbers(200)
        for at in range(0, 200, 50):
            await commit(kafka, source, tmp_path, records[at : at + 50], False)
        async with Worker(kafka, source, tmp_path) as worker:
            assert sum(worker.watcher.flushes) >= 7
            assert rows_of(worker.shards.open[0].state) == expected(records)

    asyncio.run(story())


@pytest.mark.kafka
def test_a_store_older_than_the_tombstones_is_rebuilt(
    kafka: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        records = numbers(30)
        await commit(kafka, source, tmp_path, records, True)
        monkeypatch.setattr("streams.store.AGE_MS_MAX", -AGE_MS_MAX)
        async with Worker(kafka, source, tmp_path) as worker:
            assert worker.watcher.recoveries == [8]
            assert rows_of(worker.shards.open[0].state) == expected(records)

    asyncio.run(story())
    assert "too old" in caplog.text


@pytest.mark.kafka
def test_a_shard_that_comes_back_at_once_goes_on_from_memory(kafka: str, source: str, tmp_path: Path) -> None:
    async def story() -> None:
        records = numbers(90)
        await produce(kafka, source, records[:40])
        async with Worker(kafka, source, tmp_path) as worker:
            await worker.applied(40)
            shard = worker.shards.open[0]
            await worker.shards.revoke([0], 5.0)
            assert shard.closed
            assert worker.shards.open == {}
            await worker.shards.recover([0])
            assert worker.shards.open[0] is shard
            assert not shard.closed
            assert worker.watcher.recoveries == [0, 0]
            await produce(kafka, source, records[40:])
            await worker.applied(90)
            await shard.cut_now()
            assert rows_of(shard.state) == expected(records)

    asyncio.run(story())


@pytest.mark.kafka
def test_a_shard_that_somebody_else_had_is_read_anew(kafka: str, source: str, tmp_path: Path) -> None:
    async def story() -> None:
        records = numbers(90)
        await produce(kafka, source, records[:40])
        async with Worker(kafka, source, tmp_path / "a") as worker:
            await worker.applied(40)
            shard = worker.shards.open[0]
            await worker.shards.revoke([0], 5.0)
            await commit(kafka, source, tmp_path / "b", records[40:], False)
            await worker.shards.recover([0])
            again = worker.shards.open[0]
            assert again is not shard
            assert again.next_offset == 90
            assert rows_of(again.state) == expected(records)

    asyncio.run(story())


@pytest.mark.kafka
def test_revocation_cuts_a_slow_batch_short_and_loses_nothing(
    kafka: str, source: str, tmp_path: Path
) -> None:
    async def half(shard: Shard[Counters], batch: RecordBatch) -> None:
        middle = batch.since(int(batch.offsets[len(batch) // 2]))
        first = len(batch) - len(middle)
        shard.state.add(
            RecordBatch(
                batch.topic,
                batch.partition,
                batch.start,
                middle.start,
                batch.offsets[:first],
                batch.timestamps_ms[:first],
                batch.keys[:first],
                batch.values[:first],
            )
        )
        await asyncio.sleep(60)

    async def story() -> None:
        records = numbers(80)
        await produce(kafka, source, records)
        async with Worker(kafka, source, tmp_path, apply=half) as worker:
            await until(lambda: worker.shards.open[0].state.position == 40)
            shard = worker.shards.open[0]
            await worker.shards.revoke([0], 9.0)  # a third for the batch, which is cut short, one to commit
            shard._apply = add
            await worker.shards.recover([0])
            await worker.applied(80)
            assert worker.feeder.seeks[-1] == (source, 0, 40)
            assert rows_of(worker.shards.open[0].state) == expected(records)

    asyncio.run(story())


async def refused(worker: Worker, code: ExitCode) -> str:
    with pytest.raises(OperatorError) as caught:
        await worker.shards.recover([0])
    assert caught.value.exit_code is code
    assert worker.shards.open == {}
    return caught.value.message


@pytest.mark.kafka
def test_a_position_past_the_end_of_the_log_is_refused(kafka: str, source: str, tmp_path: Path) -> None:
    async def story() -> None:
        await produce(kafka, f"{source}-changelog", [(POSITION_KEY, b'{"position":1000,"epoch":4}')])
        message = await refused(Worker(kafka, source, tmp_path), ExitCode.POSITION_OUTSIDE_LOG)
        assert "go on at offset 1000, but the log ends at 0" in message
        assert "emptied or made anew. Restore it, or rebuild" in message

    asyncio.run(story())


@pytest.mark.kafka
def test_records_deleted_unread_are_refused_with_their_number(
    kafka: str, source: str, tmp_path: Path
) -> None:
    from confluent_kafka import TopicPartition as Partition
    from confluent_kafka.admin import AdminClient

    async def story() -> None:
        await commit(kafka, source, tmp_path, numbers(10), False)
        await produce(kafka, source, numbers(30))
        admin = AdminClient({"bootstrap.servers": kafka})
        for future in admin.delete_records([Partition(source, 0, 25)]).values():
            future.result(10)
        message = await refused(Worker(kafka, source, tmp_path), ExitCode.POSITION_OUTSIDE_LOG)
        assert "begins at 25: 15 records were deleted unread" in message

    asyncio.run(story())


@pytest.mark.kafka
def test_records_deleted_while_they_are_read_end_the_worker(kafka: str, source: str, tmp_path: Path) -> None:
    from confluent_kafka import TopicPartition as Partition
    from confluent_kafka.admin import AdminClient

    async def story() -> None:
        async with Worker(kafka, source, tmp_path) as worker:
            consumer, tp = worker.feeder.consumer, TopicPartition(source, 0)
            assert consumer is not None
            consumer.pause(tp)
            await produce(kafka, source, numbers(30))
            admin = AdminClient({"bootstrap.servers": kafka})
            for future in admin.delete_records([Partition(source, 0, 25)]).values():
                future.result(10)
            consumer.resume(tp)
            await until(lambda: bool(worker.failures))
            assert isinstance(worker.failures[0], OperatorError)
            assert worker.failures[0].exit_code is ExitCode.POSITION_OUTSIDE_LOG
            assert "does not have offset 0 any more and goes on at 25" in worker.failures[0].message

    asyncio.run(story())


@pytest.mark.kafka
def test_rows_newer_than_their_changelog_are_refused(kafka: str, source: str, tmp_path: Path) -> None:
    async def story() -> None:
        store = ShardStore(tmp_path / "counters-0")
        store.write([(POSITION_KEY, b'{"position":0,"epoch":1}')], 500)
        store.close()
        message = await refused(Worker(kafka, source, tmp_path), ExitCode.DATA_DIRECTORY)
        assert "newer than their changelog" in message
        assert "delete the directory to go on" in message

    asyncio.run(story())


def test_a_broker_that_does_not_answer_ends_recovery_with_advice() -> None:
    async def story() -> None:
        with pytest.raises(OperatorError, match="check the brokers") as caught:
            async with ChangelogReader(kafka_at("127.0.0.1:1")):
                pass
        assert caught.value.exit_code is ExitCode.BROKER_UNREACHABLE

    asyncio.run(story())


class Standing:
    """A consumer whose position stays; the broker answers whenever `answer` is called."""

    def __init__(self, position: int, highwater: int) -> None:
        self.at, self.end, self.answered = position, highwater, 0

    def highwater(self, tp: TopicPartition) -> int:
        return self.end


def test_empty_answers_below_the_end_mean_that_compaction_took_it(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer, tp = Standing(8, 10), TopicPartition("t", 0)
    monkeypatch.setattr("streams.recovery.position_of", lambda consumer, tp: consumer.at)
    monkeypatch.setattr("streams.recovery.answered_at", lambda consumer, tp: consumer.answered)
    arrival = Arrival(consumer)
    for _ in range(10):  # no answers yet: not known
        assert not arrival.reached(tp, 10)
    for _ in range(EMPTY_ANSWERS_MIN - 1):
        consumer.answered += 1
        assert not arrival.reached(tp, 10)
    consumer.answered += 1
    assert arrival.reached(tp, 10)


@pytest.mark.kafka
def test_progress_is_told_with_what_is_left(kafka: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.recovery.PROGRESS_EVERY_S", 0.0)

    async def story() -> None:
        told: list[tuple[int, int, float | None]] = []
        rows: list[bytes] = []
        end = await produce(kafka, f"{source}-changelog", numbers(2_500))

        async def restore(found: list[tuple[bytes, bytes | None]], next_offset: int) -> None:
            rows.extend(key for key, _ in found)

        replay = Replay(f"{source}-changelog", 0, -1, restore, lambda: None)
        async with ChangelogReader(kafka_at(kafka)) as reader:
            await reader.replay([replay], lambda *progress: told.append(progress))
        assert (len(rows), replay.rows, replay.next_offset) == (2_500, 2_500, end)
        assert told[0][0] == 1_000
        assert told[0][1] == 1_500
        assert told[-1][:2] == (2_500, 0)

    asyncio.run(story())
