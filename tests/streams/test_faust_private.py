"""What we lean on inside Faust, mode and aiokafka: one test per reliance, which says what has moved.

When a new version breaks one of these, the sentence names what to look at; the code that leans on it is in
streams/faust_private/. Behaviour in a group is tested in test_transport.py on a real broker.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher as aiofetcher
from aiokafka.consumer.subscription_state import SubscriptionState, TopicPartitionState
from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator, MessageBatch
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.record.memory_records import MemoryRecords
from faust.app import App
from faust.tables.base import Collection
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport import drivers
from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as DriverConsumer
from faust.types import TP
from mode.services import Service, ServiceTask
from mode.threads import ServiceThread, WorkerThread

from streams.concerns import CheckpointSettings, WorkerSettings
from streams.faust_private.consumer import SCHEME, ShardConsumer, ShardTransport, WholeFetches
from streams.faust_private.crash import crashed
from streams.faust_private.producer import WholeBatch
from streams.faust_private.raw import KeptRecords, RawFetch, batches_of
from streams.faust_private.tables import ShardRecovery, ShardTableManager
from streams.shards import Job
from streams.transport import ShardApp, create_app
from tests.streams.counters import Counters, add
from tests.streams.fakes import kafka_at
from tests.streams.logs import Log
from tests.waiting import GUARD_S
from wire.names import Namespace

TP0 = TopicPartition("in", 0)
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("wire", "models", "streams", "topologies", "serving", "demo", "feedrank")
KNOWN = {"_replace", "_exit", "_asdict", "_fields", "_current_frames"}
"""Documented, whatever they look like: of named tuples, os and sys."""


def moved(sentence: str, there: bool) -> None:
    """Fail with the sentence unless what we lean on is there."""
    assert there, f"{sentence}. Adapt streams/faust_private/, then this test"


def names_in(function: Callable[..., Any]) -> set[str]:
    """Attribute names that the function uses, its inner functions included."""
    code = inspect.unwrap(function).__code__
    found = set(code.co_names)
    for one in code.co_consts:
        found |= set(getattr(one, "co_names", ()))
    return found


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.fixture
def in_app(tmp_path: Path) -> Callable[[Callable[[ShardApp], Any]], Any]:
    """Run something with an app of ours that is built but not started."""

    def run(check: Callable[[ShardApp], Any]) -> Any:
        async def story() -> Any:
            worker = WorkerSettings(FEEDRANK_DATA_DIR=tmp_path)
            app = create_app(Namespace("test"), kafka_at("127.0.0.1:1"), worker, CheckpointSettings())
            app.shards(Job("counters", "in", "in-changelog", lambda p, store: Counters(p, store), add))
            threads_loop = app.consumer._thread.thread_loop
            try:
                found = check(app)
                return await found if inspect.isawaitable(found) else found
            finally:
                threads_loop.close()

        return asyncio.run(story())

    return run


# -- raw: aiokafka's fetcher -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "_records",
        "_subscriptions",
        "_closed",
        "_isolation_level",
        "_check_crcs",
        "_wait_consume_future",
        "_fetch_waiters",
        "_prefetch_backoff",
    ],
)
def test_aiokafkas_fetcher_keeps_what_it_fetched(name: str) -> None:
    moved(
        f"aiokafka's Fetcher has no `{name}` any more: take() reads fetched bytes from it",
        name in names_in(aiofetcher.Fetcher.__init__),
    )


@pytest.mark.parametrize("name", ["_create_fetch_waiter", "_notify"])
def test_aiokafkas_fetcher_wakes_those_who_wait(name: str) -> None:
    moved(
        f"aiokafka's Fetcher has no method `{name}` any more: take() waits with it",
        hasattr(aiofetcher.Fetcher, name),
    )


@pytest.mark.parametrize("name", ["_fetcher", "_subscription", "_client"])
def test_aiokafkas_consumer_has_its_parts(name: str) -> None:
    moved(
        f"AIOKafkaConsumer has no `{name}` any more: raw.py reaches fetcher and positions through it",
        name in names_in(AIOKafkaConsumer.__init__) | names_in(AIOKafkaConsumer.start),
    )


def test_a_fetch_result_holds_its_records_and_its_assignment() -> None:
    result = aiofetcher.FetchResult(TP0, assignment="a", partition_records="r", backoff=0)
    moved(
        "aiokafka's FetchResult has no `_assignment` and `_partition_records` any more",
        (result._assignment, result._partition_records) == ("a", "r"),
    )
    moved(
        "aiokafka's FetchResult no longer says by check_assignment(tp) whether it is still wanted",
        parameters(result.check_assignment) == ["tp"] and result.has_more(),
    )


def test_partition_records_are_unread_batches_with_a_position() -> None:
    log = Log()
    log.append([b"a", b"b"], producer=4)
    log.finish(4, 0)
    records = aiofetcher.PartitionRecords(
        TP0, MemoryRecords(bytes(log.data)), [(4, 0)], 1, None, None, True, aiofetcher.READ_COMMITTED
    )
    moved("aiokafka's PartitionRecords has no `next_fetch_offset` any more", records.next_fetch_offset == 1)
    moved(
        "aiokafka's PartitionRecords begins to read before it is asked to: its batches would be missing",
        records._records.has_next(),
    )
    moved(
        "aiokafka's aborted transactions are no longer (producer id, first offset)",
        records._aborted_transactions == [(4, 0)] and list(records) == [],
    )


def test_a_record_batch_says_what_the_unpacker_asks() -> None:
    log = Log()
    log.append([b"a", b"b"], producer=4)
    log.finish(4, 1)
    records = MemoryRecords(bytes(log.data))
    data, marker = records.next_batch(), records.next_batch()
    moved(
        "aiokafka's record batch no longer tells offsets, producer, kind and checksum as we read them",
        (data.base_offset, data.next_offset, data.producer_id, data.is_transactional, data.validate_crc())
        == (0, 2, 4, True, True)
        and (data.is_control_batch, marker.is_control_batch) == (False, True),
    )
    [first, _] = data
    moved(
        "aiokafka's record has no offset, timestamp, key and value any more",
        (first.offset, first.timestamp, first.key, first.value) == (0, 1_700_000_000_000, b"k0", b"a"),
    )


@pytest.mark.parametrize("name", ["consumed_to", "position", "timestamp", "highwater", "paused"])
def test_the_state_of_a_partition_can_be_read_and_moved(name: str) -> None:
    moved(
        f"aiokafka's TopicPartitionState has no `{name}` any more",
        hasattr(TopicPartitionState, name) or name in names_in(TopicPartitionState.__init__),
    )


def test_polling_keeps_a_consumer_in_its_group() -> None:
    async def story() -> None:
        subscription = SubscriptionState()
        subscription._last_fetch_ended -= 100
        before = subscription.fetcher_idle_time
        with subscription.fetch_context():
            pass
        moved(
            "aiokafka's fetch_context() no longer resets the time after which an idle consumer leaves the "
            "group: a long recovery would lose its partitions",
            before > 99 and subscription.fetcher_idle_time < 1,
        )

    asyncio.run(story())


def test_aiokafkas_client_waits_for_metadata() -> None:
    moved(
        "aiokafka's client has no `_wait_on_metadata(topic)` any more: partitions_of() asks it",
        parameters(AIOKafkaClient._wait_on_metadata) == ["self", "topic"],
    )


# -- producer ----------------------------------------------------------------------------------------


def test_a_producers_own_futures_can_be_found() -> None:
    async def story() -> None:
        batch = MessageBatch(TP0, BatchBuilder(100, 0), 1, 0)
        moved(
            "aiokafka's producer keeps its futures elsewhere: a fenced one would report errors of its own",
            isinstance(batch.future, asyncio.Future)
            and isinstance(batch._drain_waiter, asyncio.Future)
            and "_batches" in names_in(MessageAccumulator.__init__)
            and "_transaction_waiter" in names_in(TransactionManager.__init__)
            and {"_txn_manager", "_message_accumulator"} <= names_in(AIOKafkaProducer.__init__),
        )

    asyncio.run(story())


def test_a_batch_of_ours_can_stand_where_aiokafka_has_its_own() -> None:
    ours = {name for name in dir(WholeBatch) if not name.startswith("__")}
    used = (
        names_in(MessageBatch.append)
        | names_in(MessageBatch.set_producer_state)
        | names_in(MessageBatch.get_data_buffer)
        | names_in(MessageBatch.remaining_linger)
        | names_in(MessageBatch.is_empty)
        | names_in(MessageAccumulator.flush_for_commit)
    )
    builders = {name for name in dir(BatchBuilder) if not name.startswith("__")}
    moved("aiokafka asks a batch for more than WholeBatch can do", used & builders <= ours)
    moved(
        "aiokafka hands batches over in another way",
        {"set_producer_state", "drain_ready"} <= names_in(MessageAccumulator._pop_batch)
        and parameters(BatchBuilder._set_producer_state) == parameters(WholeBatch._set_producer_state),
    )


def test_a_fetchs_bytes_can_be_kept() -> None:
    log = Log()
    log.append([b"a", b"b"])
    log.append([b"c"])
    moved(
        "aiokafka's fetcher no longer makes MemoryRecords by that name: nobody keeps the bytes of a fetch",
        aiofetcher.MemoryRecords is KeptRecords
        and "MemoryRecords" in names_in(aiofetcher.Fetcher._proc_fetch_request),
    )
    records = KeptRecords(bytes(log.data))
    batches = [records.next_batch(), records.next_batch()]
    assert not records.has_next()
    assert b"".join(batches_of(records.data, len(batches))) == bytes(log.data)


# -- consumer: Faust's -------------------------------------------------------------------------------


def test_faust_finds_our_transport_by_its_scheme() -> None:
    moved(
        "Faust no longer finds a transport in drivers.TRANSPORTS.aliases",
        drivers.by_url(f"{SCHEME}://somewhere") is ShardTransport,
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_create_worker_consumer", ["self", "transport"]),
        ("_fetch_records", ["self", "consumer", "active_partitions", "timeout", "max_records"]),
        ("_commit", ["self", "offsets"]),
        ("verify_event_path", ["self", "now", "tp"]),
        ("__post_init__", ["self"]),
        ("_ensure_consumer", ["self"]),
    ],
)
def test_fausts_consumer_thread_is_entered_where_we_override_it(name: str, expected: list[str]) -> None:
    moved(
        f"Faust's AIOKafkaConsumerThread.{name} has other parameters or is gone",
        parameters(getattr(AIOKafkaConsumerThread, name, lambda: None)) == expected,
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_wait_next_records", ["self", "timeout"]),
        ("_to_message", ["self", "tp", "record"]),
        ("_getmany", ["self", "active_partitions", "timeout"]),
        ("perform_seek", ["self"]),
        ("highwater", ["self", "tp"]),
        ("commit", ["self", "topics", "start_new_transaction"]),
        ("on_partitions_revoked", ["self", "revoked"]),
        ("on_partitions_assigned", ["self", "assigned", "generation_id"]),
        ("_new_consumer_thread", ["self"]),
    ],
)
def test_fausts_consumer_is_entered_where_we_override_it(name: str, expected: list[str]) -> None:
    moved(
        f"Faust's Consumer.{name} has other parameters or is gone",
        parameters(getattr(DriverConsumer, name, lambda: None)) == expected,
    )


def test_faust_delivers_one_message_per_fetch(in_app: Callable[..., Any]) -> None:
    fetch = RawFetch("in", 0, 5, 9, [], [], True, 20)

    async def check(app: ShardApp) -> None:
        consumer = app.consumer

        async def one(active_partitions: Any, timeout: float) -> dict[TP, RawFetch]:  # noqa: ASYNC109
            return {TP("in", 0): fetch}

        consumer._getmany = one
        messages = [message async for _, message in consumer.getmany(timeout=0.1)]
        moved(
            "Faust's Consumer.getmany no longer delivers what the scheduler gives it, one message per fetch",
            [message.value for message in messages] == [fetch],
        )
        moved(
            "Faust's ConsumerMessage is made with other arguments: topic, partition or offset are misplaced",
            (messages[0].topic, messages[0].partition, messages[0].offset) == ("in", 0, 8),
        )

    in_app(check)


def test_faust_takes_our_scheduler_and_forgets_what_it_read(in_app: Callable[..., Any]) -> None:
    def check(app: ShardApp) -> None:
        consumer = app.consumer
        consumer._read_offset[TP("in", 0)] = 7
        moved("Faust has no ConsumerScheduler setting any more", isinstance(consumer.scheduler, WholeFetches))
        moved(
            "Faust drops and fills gaps by another attribute than `_read_offset`: a seek would lose records",
            consumer._read_offset[TP("in", 0)] is None
            and "_read_offset" in names_in(FaustConsumer._drain_messages),
        )

    in_app(check)


def test_faust_keeps_active_partitions_in_a_set(in_app: Callable[..., Any]) -> None:
    def check(app: ShardApp) -> None:
        consumer: ShardConsumer = app.consumer
        consumer.resume_partitions({TP("in", 0), TP("in", 1)})
        consumer.pause("in", 1)
        moved(
            "Faust keeps active partitions elsewhere than in the set `_active_partitions`",
            consumer.wanted() == {TP("in", 0)},
        )

    in_app(check)


def test_fausts_acks_can_be_thrown_away(in_app: Callable[..., Any]) -> None:
    def check(app: ShardApp) -> None:
        moved(
            "Faust keeps acks elsewhere than in `_acked` and `_acked_index`: they would grow for ever",
            {"_acked", "_acked_index"} <= names_in(FaustConsumer.ack)
            and hasattr(app.consumer, "_acked")
            and hasattr(app.consumer, "_acked_index"),
        )

    in_app(check)


def test_faust_tells_the_group_through_commit(in_app: Callable[..., Any]) -> None:
    async def check(app: ShardApp) -> None:
        told: list[dict[TP, int]] = []

        async def commit(offsets: dict[TP, int]) -> dict[TP, int]:
            told.append(dict(offsets))
            return {tp: n for tp, n in offsets.items() if tp.partition == 0}

        app.consumer._thread.commit = commit
        app.consumer.mark_done("in", 0, 9)
        app.consumer._acked[TP("in", 0)].append(3)
        await app.consumer.commit()
        await app.consumer.commit()
        assert told == [{TP("in", 0): 9}]
        assert not app.consumer._acked
        app.consumer.mark_done("in", 1, 5)
        await app.consumer.commit()
        await app.consumer.commit()
        assert told[1:] == [{TP("in", 1): 5}] * 2, "what the group did not accept is told again"
        app.consumer._tell_all_at = 0.0
        await app.consumer.commit()
        assert told[3:] == [{TP("in", 0): 9, TP("in", 1): 5}], "now and then all is told again"
        moved(
            "Faust's commit timer no longer calls Consumer.commit(): lag monitors would see nothing",
            "commit" in names_in(FaustConsumer._commit_handler.fun),
        )

    in_app(check)


def test_faust_calls_the_consumer_back_in_the_main_loop() -> None:
    names = names_in(DriverConsumer.threadsafe_partitions_revoked)
    moved(
        "Faust no longer calls on_partitions_revoked in the main loop: shards would be settled in a thread",
        {"_method_queue", "on_partitions_revoked"} <= names,
    )


# -- tables ------------------------------------------------------------------------------------------


def test_faust_takes_our_table_manager_and_recovery(in_app: Callable[..., Any]) -> None:
    def check(app: ShardApp) -> None:
        moved("Faust has no TableManager setting any more", isinstance(app.tables, ShardTableManager))
        moved(
            "Faust's TableManager no longer takes its recovery from the property `recovery`",
            isinstance(app.tables.recovery, ShardRecovery)
            and "recovery" in names_in(TableManager.on_rebalance),
        )

    in_app(check)


@pytest.mark.parametrize("name", ["_restart_recovery", "_slurp_changelogs", "_publish_stats"])
def test_fausts_recovery_has_the_tasks_that_we_replace(name: str) -> None:
    moved(
        f"Faust's Recovery has no task `{name}` any more: another one may read changelogs next to ours",
        isinstance(vars(Recovery).get(name), ServiceTask)
        and isinstance(vars(ShardRecovery).get(name), ServiceTask),
    )


def test_fausts_recovery_has_no_tasks_that_we_do_not_know() -> None:
    tasks = {name for name, value in vars(Recovery).items() if isinstance(value, ServiceTask)}
    moved(
        f"Faust's Recovery has other tasks ({sorted(tasks)}): see what the new ones do to changelogs",
        tasks == {"_restart_recovery", "_slurp_changelogs", "_publish_stats"},
    )


def test_fausts_recovery_is_told_of_assignments() -> None:
    moved(
        "Faust's Recovery.on_rebalance no longer sets active_tps, signal_recovery_start and _generation_id",
        {"active_tps", "signal_recovery_start", "_generation_id"} <= names_in(Recovery.on_rebalance),
    )
    moved(
        "Faust's Recovery.on_recovery_completed no longer resumes, seeks by perform_seek and begins to fetch",
        {"resume_partitions", "perform_seek", "resume_flow", "maybe_start"}
        <= names_in(Recovery.on_recovery_completed),
    )


def test_a_tables_changelog_and_store_are_ours(in_app: Callable[..., Any]) -> None:
    def check(app: ShardApp) -> None:
        [table] = app.tables.values()
        moved(
            "Faust takes the changelog's name from elsewhere than `_changelog_topic_name`",
            table.changelog_topic_name == "in-changelog" and app.tables.changelog_topics == {"in-changelog"},
        )
        moved(
            "Faust makes a table's store elsewhere than in `_new_store`: it might open RocksDB itself",
            "_new_store" in names_in(Collection.data.fget),
        )
        with pytest.raises(NotImplementedError, match="rows belong to shards"):
            table.data[b"k"]

    in_app(check)


def test_faust_stops_tables_before_the_consumer() -> None:
    source = inspect.getsource(App._stop_consumer)
    moved(
        "Faust's App._stop_consumer no longer stops tables: shards would not be settled at SIGTERM",
        "self.tables.stop()" in source and "_stop_fetcher" in source,
    )


def test_shard_and_changelog_partitions_stay_together() -> None:
    moved(
        "Faust's app has no `assignor` that keeps source and changelog partitions on one worker any more",
        "assignor" in names_in(AIOKafkaConsumerThread._create_worker_consumer)
        and "assigned_actives" in names_in(Recovery.on_rebalance),
    )


def test_a_crash_of_fausts_can_be_seen() -> None:
    moved(
        "mode's Service keeps a crash elsewhere than in `_crashed` and `crash_reason`: the worker would hang",
        {"_crashed", "crash_reason"} <= names_in(Service._crash),
    )

    async def story() -> None:
        failing = Failing()
        event = crashed(failing)
        await failing.start()
        async with asyncio.timeout(GUARD_S):
            await event.wait()
        moved("mode's crash_reason does not say why", isinstance(failing.crash_reason, ZeroDivisionError))
        await failing.stop()

    asyncio.run(story())


class Failing(Service):  # type: ignore[misc]
    """Has one part, which fails."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _part(self) -> None:
        raise ZeroDivisionError


def _privates_of_others(path: Path) -> list[str]:
    """Names with an underscore that the file asks something else than itself for."""
    return [
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and re.match(r"_[a-z]", node.attr)
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
    ]


def test_what_is_private_to_the_libraries_is_asked_for_in_one_place() -> None:
    ours = [path for part in PACKAGES for path in (ROOT / part).rglob("*.py")]
    code = "\n".join(path.read_text() for path in ours)
    outside = [path for path in ours if path.parent.name != "faust_private"]
    strange = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in outside
        for name in _privates_of_others(path)
        if name not in KNOWN and not re.search(rf"(def |self\.|cls\.|^ *){name}\b *[(:=]", code, re.MULTILINE)
    }
    assert strange == set(), "of a library: it belongs into streams/faust_private/, with a test here"


def test_the_worker_makes_no_producer_and_no_web_server(in_app: Callable[..., Any]) -> None:
    def check(app: ShardApp) -> None:
        boot = app.boot_strategy
        moved(
            "Faust's BootStrategy decides otherwise about its producer and web server",
            (list(boot.kafka_producer()), list(boot.web_server())) == ([], []),
        )

    in_app(check)


def test_a_seek_is_done_in_the_consumers_thread_and_counted(in_app: Callable[..., Any]) -> None:
    def check(app: ShardApp) -> None:
        consumer: ShardConsumer = app.consumer
        calls: list[Any] = []
        consumer._thread.thread_loop = SimpleNamespace(call_soon_threadsafe=lambda *call: calls.append(call))
        consumer.seek("in", 0, 17)
        consumer.seek("in", 0, 18)
        assert consumer.generation("in", 0) == 2
        assert [call[1:] for call in calls] == [(TP0, 17, 1), (TP0, 18, 2)]
        moved("mode's ServiceThread has no `thread_loop` any more", "thread_loop" in names_in(_thread_init()))

    in_app(check)


def test_stopping_waits_for_a_thread_that_is_on_its_way(in_app: Callable[..., Any]) -> None:
    async def check(app: ShardApp) -> None:
        may_begin = threading.Event()

        class Late(WorkerThread):  # type: ignore[misc]
            def run(self) -> None:
                may_begin.wait()
                super().run()

        thread = app.consumer._thread

        async def connect() -> None:
            """There is no broker here."""

        thread.Worker, thread.on_start = Late, connect
        moved(
            "mode's ServiceThread has no `_thread` and `_thread_started` any more, or starts in other steps",
            {"_thread", "_thread_started", "Worker"} <= names_in(ServiceThread.start),
        )
        starting = asyncio.ensure_future(thread.start())
        await asyncio.sleep(0)  # up to the thread's launch
        stopping = asyncio.ensure_future(thread.stop())
        given_up, _ = await asyncio.wait([stopping], timeout=0.05)
        may_begin.set()
        await starting
        await thread.stop()
        await stopping
        assert not given_up, "stopping gave up a thread before its first line"
        moved(
            "mode's ServiceThread ends otherwise: its thread outlives stop(), on a loop that is closed",
            not thread._thread.is_alive() and thread.thread_loop.is_closed(),
        )

    in_app(check)


def _thread_init() -> Callable[..., Any]:
    return ServiceThread.__init__
