"""The Faust app of a worker (steps 1, 2, 4): settings that work, shards as tables, one way to fail and to
stop.

def build() -> ShardApp:
    app = create_app(names, settings)
    users = app.shards(Job("users", ACTIVITIES, names.users_changelog, open_state, apply))

    @app.agent(users.source)
    async def update_profiles(batches):
        async for batch in batches:
            users.deliver(batch)

    return app

sys.exit(run_worker(build))
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Generic

import faust
from aiokafka.errors import KafkaError
from faust.app.base import BootStrategy

from streams.blame import Ask, blamed
from streams.closing import all_free
from streams.concerns import CheckpointSettings, KafkaSettings, WorkerSettings
from streams.data_dir import claimed
from streams.errors import ExitCode, OperatorError
from streams.faust_private.consumer import SCHEME, WholeFetches
from streams.faust_private.crash import crashed
from streams.faust_private.raw import RawFetch
from streams.faust_private.tables import FrameTable, ShardTableManager
from streams.log import logger
from streams.observe import Observer
from streams.shard import S, Shard
from streams.shards import Job, Shards, Site
from streams.together import run_all
from wire.names import Namespace

STREAM_FETCHES_MAX = 4
"""Fetches between Faust's consumer and an agent; shards have inboxes of their own."""
OFFSETS_EVERY_S = 1.0
COLLECT_AFTER = (2_000, 10, 5_000)
"""Records come and go as long lists without cycles: Python's own thresholds would walk them all the time, and
higher ones walk so many at once that it holds the loop."""
STOP_GRACE_S = 1.5
"""After the time to stop: for leaving the group and closing connections."""

log = logger(__name__)


class NoWeb(BootStrategy):  # type: ignore[misc]
    """No web server (the worker has its own) and no producer of Faust's (checkpoints have theirs)."""

    enable_web = False
    enable_kafka_producer = False

    def sensors(self) -> list[Any]:
        """What runs beside the shards starts before them and stops after them, like Faust's sensors."""
        return [*super().sensors(), *self.app.beside]


class ShardApp(faust.App):  # type: ignore[misc]
    """A Faust app whose tables are shards. Make it with `create_app`, inside a running loop.

    `topics_wrong` asks the brokers for the topics that the app needs, before it ends for lack of an answer.
    """

    BootStrategy = NoWeb
    topics_wrong: Ask | None = None

    def __init__(self, site: Site, **options: Any) -> None:
        self.site = site
        self.jobs: list[ShardTable[Any]] = []
        self.beside: list[Any] = []
        self.listeners: list[Callable[[], Awaitable[None]]] = []
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()
        super().__init__(**options)

    def shards(self, job: Job[S]) -> ShardTable[S]:
        """Add a job; its `source` feeds one agent."""
        table: ShardTable[S] = ShardTable(self, job)
        self.jobs.append(table)
        return table

    def fail(self, error: BaseException) -> None:
        """End the worker with this error's exit code (the first one counts), after a clean stop."""
        if self.failure is None:
            self.failure = error
            self.failed.set()

    # -- what the consumer and the recovery ask ------------------------------------------------------

    def standing(self) -> Iterator[tuple[str, int, int]]:
        """Topic, partition and next offset of every shard at work."""
        for table in self.jobs:
            for partition, shard in table.shards.items():
                yield table.job.source, partition, shard.next_offset

    async def recover(self, changelogs: set[Any]) -> None:
        """Have each job own the partitions whose changelog partitions are assigned here.

        Downstream first: what a shard sends on once it is at work must not hide that the topic it goes to was
        made anew.
        """
        wanted = [
            (table.all, [tp.partition for tp in changelogs if tp.topic == table.job.changelog])
            for table in reversed(self.jobs)
        ]
        for shards, partitions in wanted:
            await shards.recover(partitions, self.consumer.keep_in_group)
        self.site.observer.assigned(sum(len(partitions) for _, partitions in wanted))

    async def revoke(self, revoked: set[Any]) -> None:
        """Commit what is applied of these and stop work on them."""
        wanted = [
            (table.all, [tp.partition for tp in revoked if tp.topic == table.job.source])
            for table in self.jobs
        ]
        await run_all(shards.revoke(partitions, self.site.stop_s) for shards, partitions in wanted)


class ShardTable(Generic[S]):
    """One job's shards and the topic that feeds them."""

    def __init__(self, app: ShardApp, job: Job[S]) -> None:
        self.job = job
        self.source = app.topic(job.source, key_serializer="raw", value_serializer="raw")
        self.all: Shards[S] = Shards(job, app.site, app.consumer, app.fail)
        app.tables.add(FrameTable(app, job.name, job.changelog, self.all.stop))

    @property
    def shards(self) -> dict[int, Shard[S]]:
        """Those at work, by partition."""
        return self.all.open

    def deliver(self, fetch: RawFetch) -> None:
        """What an agent does with each message: never blocks, never raises for a partition that has gone."""
        shard = self.all.open.get(fetch.partition)
        if shard is not None:
            shard.deliver(fetch)


def create_app(
    names: Namespace,
    kafka: KafkaSettings,
    worker: WorkerSettings,
    checkpoint: CheckpointSettings,
    observer: Observer | None = None,
) -> ShardApp:
    """A Faust app of this namespace's group. Call inside a running loop.

    Raises OperatorError (data directory) when the directory can't be made.
    """
    directory = worker.data_dir / names.name
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(
            f"cannot make {directory} ({error.strerror}); correct FEEDRANK_DATA_DIR", ExitCode.DATA_DIRECTORY
        ) from error
    site = Site(
        names,
        kafka,
        checkpoint,
        directory,
        worker.ingest_records_max,
        worker.stop_ms / 1_000,
        observer or Observer(),
        standby=worker.standby,
    )
    request_s = kafka.request_timeout_ms / 1_000
    return ShardApp(
        site,
        id=names.group,
        broker=[f"{SCHEME}://{server}" for server in kafka.servers],
        datadir=str(directory / "faust"),
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        TableManager=ShardTableManager,
        ConsumerScheduler=WholeFetches,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_buffer_maxsize=STREAM_FETCHES_MAX,
        stream_recovery_delay=0.0,
        broker_commit_interval=OFFSETS_EVERY_S,
        broker_request_timeout=request_s,
        broker_session_timeout=kafka.session_timeout_ms / 1_000,
        table_standby_replicas=0,
    )


def run_worker(build: Callable[[], ShardApp]) -> int:
    """Run until SIGTERM, SIGINT or a failure; returns the exit code. `build` is called inside the loop."""
    return asyncio.run(_run(build))


async def _run(build: Callable[[], ShardApp]) -> int:
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    try:
        app = build()
        with claimed(app.site.directory):
            for listen in app.listeners:  # a taken port is found before anything runs that has to be stopped
                await listen()
            return await _until_end(app, told_to_stop)
    except OperatorError as error:
        return explain(error)


async def _until_end(app: ShardApp, told_to_stop: asyncio.Event) -> int:
    starting = asyncio.ensure_future(app.start())
    waits = {asyncio.ensure_future(e.wait()) for e in (told_to_stop, app.failed, crashed(app))}
    await asyncio.wait({starting, *waits}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done() and starting.exception() is None:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    if told_to_stop.is_set():
        log.info("told to stop; committing what is applied")
    began_badly = starting.exception() if starting.done() else None
    error = app.failure or began_badly or app.crash_reason
    code = explain(await blamed(error, app.topics_wrong))
    await _stop(app, starting, code)
    log.info("stopped", exit_code=int(code))
    return code


async def _stop(app: ShardApp, starting: asyncio.Future[None], code: int) -> None:
    stopping = asyncio.ensure_future(_stop_and_free(app))
    done, _ = await asyncio.wait([stopping], timeout=app.site.stop_s + STOP_GRACE_S)
    error = stopping.exception() if done else TimeoutError("the time to stop is over")
    if error:  # parts that were not reached may still run, one of them on a thread of its own
        log.warning("stopping was not clean; leaving as we are, nothing committed is lost", cause=repr(error))
        os._exit(code)
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await starting


async def _stop_and_free(app: ShardApp) -> None:
    """Also what was let go of while something else was cut short: the next process opens the directories."""
    await app.stop()
    await all_free()


def explain(error: BaseException | None) -> int:
    """Say in one line what ended the worker; returns its exit code."""
    if error is None:
        return ExitCode.OK
    if isinstance(error, OperatorError):
        log.error(error.message)
        return error.exit_code
    if isinstance(error, KafkaError):
        log.error(
            "Kafka does not do what the worker needs; check the brokers, KAFKA_BOOTSTRAP_SERVERS and rights",
            cause=str(error),
        )
        return ExitCode.BROKER_UNREACHABLE
    log.error("the worker failed; this is a defect, please report it", exc_info=error)
    return ExitCode.INTERNAL
