"""Carrying a job out (all steps): `feedrank replay` begins one, `feedrank jobs resume` goes on with it."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import redis
from redis.exceptions import RedisError

from feedrank.load.events import Tally
from feedrank.replaying import read
from feedrank.replaying.bar import Bar
from feedrank.replaying.plan import AHEAD_MS_MAX, iso
from streams.dead_letters import Reason
from streams.errors import ExitCode, OperatorError
from streams.registry import Registry
from streams.settings import Settings
from topologies.replay.custody import Custody, locked, now_ms
from topologies.replay.job import Job, State
from topologies.replay.job_log import FileJobLog, JobLog, KafkaJobLog
from topologies.replay.ledger import ledger
from topologies.replay.pool import registry_of
from topologies.replay.run import Replay
from topologies.replay.shadow import Definition, Shadow
from topologies.replay.spool import Record
from wire.names import ACTIVITIES, Namespace

KEYS_AT_ONCE = 1_000
LATE_MS = 3_600_000


def log_of(settings: Settings, definition: Definition) -> JobLog:
    """Where a replay's transitions belong: one that needs neither Kafka nor Redis has a file of its own."""
    if definition.source == "files" and definition.sink != "redis":
        return FileJobLog(settings.worker.data_dir)
    return KafkaJobLog(settings.kafka)


def carry_out(settings: Settings, log: JobLog, job: Job, processes: int) -> Job:
    """Run a job until it is finished, somebody moves it, or Ctrl-C pauses it.

    Raises OperatorError; the job is recorded as failed then, and can be resumed.
    """
    shadow, tally, order = Shadow(Path(job.directory)), Tally(), Order()

    def read_files(one: Definition) -> Iterator[Record]:
        return order.watched(_records(one, tally, registry_of(settings, files=True)))

    with _ctrl_c() as stop, Custody(log, job, shadow.directory) as custody:
        with Bar(custody.goes_on, stop.is_set) as bar:
            replay = Replay(shadow, settings, processes, bar, read_files)
            whole = replay.run()
        _say(tally, order)
        if whole:
            for line in what_became(settings, shadow):
                print(line)
            custody.finish(State.FINISHED)
        elif custody.over is None:
            custody.finish(State.PAUSED, "Ctrl-C")
        done = custody.over or custody.job
    if done.state is State.CANCELLED:
        clear(settings, done)  # whoever cancelled it could not while we worked there
    return done


@dataclass(slots=True)
class Order:
    """How many activities of files stand behind one that is more than LATE_MS newer."""

    newest_ms: int = 0
    late: int = 0

    def watched(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records, looked at."""
        for one in records:
            if one.topic == ACTIVITIES:
                self.late += one.timestamp_ms < self.newest_ms - LATE_MS
                self.newest_ms = max(self.newest_ms, one.timestamp_ms)
            yield one


def _records(definition: Definition, tally: Tally, registry: Registry | None) -> Iterator[Record]:
    paths = [Path(file) for file in definition.files]
    found = read.records(paths, tally, definition.value_format, registry)
    to_ms = definition.to_ms
    return (one for one in found if to_ms is None or one.timestamp_ms < to_ms)


def _say(tally: Tally, order: Order) -> None:
    if order.late:
        print(
            f"warning: {order.late:,} activities stand after others that are more than an hour newer; they "
            "are applied in the files' order. Sort them by time unless they came so"
        )
    if tally.bad:
        print(f"passed over {tally.bad} bad lines:")
        for line in tally.shown:
            print(f"  {line}")


def what_became(settings: Settings, shadow: Shadow) -> list[str]:
    """Of the records of a replay that came to its end, for people."""
    found = ledger(shadow, range(shadow.definition().partitions))
    said = [
        f"applied  {found.applied:,} of {found.records:,} activities; {found.duplicates:,} were duplicates, "
        f"{found.withdrawn:,} withdrawn, {found.dead.total():,} dead letters"
    ]
    for what, dead in (("activities", found.dead), ("items", found.dead_items)):
        if dead:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in dead.most_common())
            todo = "docs/wire.md explains the reasons"
            if Reason.UNKNOWN_SCHEMA in dead and settings.kafka.schema_registry_url is None:
                todo = "no registry is set: SCHEMA_REGISTRY_URL names it"
            said.append(f"warning: {what} that count nowhere: {reasons}; {todo}")
    as_of_ms = shadow.definition().as_of_ms
    if as_of_ms > now_ms() + AHEAD_MS_MAX:
        said.append(
            f"warning: the newest activity is of {iso(as_of_ms)}, which has not come: somebody's clock was "
            "ahead, and feeds are settled then. With --to they are settled at a time that you name"
        )
    return said


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Within, Ctrl-C and SIGTERM set the event; a second one interrupts at once."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def told(job: Job) -> str:
    """What became of it, in a line."""
    note = f" ({job.holder.note})" if job.holder.note else ""
    more = {
        State.FINISHED: f"; `feedrank digest {job.namespace}` compares it" + _onwards(job),
        State.PAUSED: f"; `feedrank jobs resume {job.id}` goes on where it stands",
        State.FAILED: f"; `feedrank jobs resume {job.id}` tries again from its last checkpoint",
    }
    return f"job {job.id}: {job.state}{note}{more.get(job.state or State.SUBMITTED, '')}"


def _onwards(job: Job) -> str:
    """Positions in files are not the topics': such a shadow cannot go on live."""
    shadow = Shadow(Path(job.directory))
    if not shadow.exists or shadow.definition().source == "files":
        return ""
    return f", `feedrank catch-up {job.namespace}` lets it go on live"


def clear(settings: Settings, job: Job) -> None:
    """Delete what a cancelled job made: its directory, and its feeds in Redis.

    Raises OperatorError while another process still works there, or Redis does not answer.
    """
    shadow = Shadow(Path(job.directory))
    if not shadow.exists:
        return
    with locked(job, shadow.directory):
        if shadow.definition().sink == "redis":
            _forget_feeds(settings, Namespace(job.namespace))
        shutil.rmtree(shadow.directory, ignore_errors=True)


def _forget_feeds(settings: Settings, names: Namespace) -> None:
    kind = redis.RedisCluster if settings.redis.cluster else redis.Redis
    try:
        client = kind.from_url(settings.redis.address, socket_timeout=settings.redis.timeout_ms / 1_000)
        try:
            for pattern in (f"feed:{names.name}:*", f"feedrank:present:{names.name}:*", names.changed):
                for key in client.scan_iter(match=pattern, count=KEYS_AT_ONCE):
                    client.unlink(key)
        finally:
            client.close()
    except (RedisError, OSError) as error:
        raise OperatorError(
            f"Redis: {str(error).rstrip('.')}; check REDIS_URL, then cancel the job again: its feeds are "
            "still there",
            ExitCode.REDIS_UNREACHABLE,
        ) from error
