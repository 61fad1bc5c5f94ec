"""Steps of a replay over its partitions, in this process or in several (all steps).

Processes share nothing but the shadow's directory, where each partition's files have one owner at a time.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from models.policy import parse_policy
from streams.errors import ExitCode, OperatorError
from streams.registry import Registry
from streams.settings import Settings
from topologies.replay.custody import ORPHANS_FILE
from topologies.replay.feeds import settle_feeds
from topologies.replay.kafka_log import KafkaLog
from topologies.replay.records import RecordLog
from topologies.replay.shadow import Shadow
from topologies.replay.shard import Spent
from topologies.replay.spool import Spool
from topologies.replay.steps import Moved, Steps

Phase = Literal["users", "items", "features", "feeds"]
TOLD_EVERY_S = 0.2
PR_SET_PDEATHSIG = 1
FETCH_RECORDS = 20_000


@dataclass(slots=True)
class KeptItems:
    """Activities of one log, items as they were kept when the replay began."""

    log: RecordLog
    items_of: Spool

    def activities(self, partition: int, start: int, end: int) -> Any:
        """See RecordLog."""
        return self.log.activities(partition, start, end)

    def items(self) -> Any:
        """See RecordLog."""
        return self.items_of.items()


def open_steps(directory: Path, settings: Settings) -> Steps:
    """The steps of the replay in a directory. Raises OperatorError when there is none."""
    shadow = Shadow(directory)
    one = shadow.definition()
    spool = Spool(shadow.spool)
    log: RecordLog = spool
    if not one.spooled:
        at_once = min(FETCH_RECORDS, settings.worker.replay_records_max)
        log = KeptItems(KafkaLog(settings.kafka, one.items_ends, at_once), spool)
    policy = parse_policy(one.policy, str(shadow.directory))
    return Steps(shadow, one, settings, policy, log, registry_of(settings, one.source == "files"))


def registry_of(settings: Settings, files: bool = False) -> Registry | None:
    """The schema registry, where one is set. `files`: records of these are written anew, without it."""
    url, auth = settings.kafka.schema_registry_url, settings.kafka.schema_registry_auth
    return None if url is None else Registry(url, auth.get_secret_value() if auth else None, bundled=files)


async def run_step(steps: Steps, phase: Phase, partition: int, as_of_ms: int, moved: Moved) -> bool:
    """One step of one partition; False when `moved` stopped it."""
    if phase == "users":
        return await steps.users(partition, moved)
    if phase == "items":
        return await steps.item_rows(partition, moved)
    if phase == "features":
        return await steps.features(partition, as_of_ms, moved)
    return await settle_feeds(steps, partition, as_of_ms, moved)


class Inline:
    """Steps one after the other in this process."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.spent = dict[Phase, Spent]()
        self._directory, self._settings = directory, settings
        self._steps: Steps | None = None

    def run(self, phase: Phase, partitions: Sequence[int], as_of_ms: int, moved: Moved) -> bool:
        """All partitions; False when `moved` stopped them."""
        steps = self._steps = self._steps or open_steps(self._directory, self._settings)
        for partition in partitions:
            cpu_s, steps.spent = time.process_time(), Spent()
            whole = asyncio.run(run_step(steps, phase, partition, as_of_ms, moved))
            steps.spent.cpu_s = time.process_time() - cpu_s
            self.spent.setdefault(phase, Spent()).add(steps.spent)
            if not whole:
                return False
        return True

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass(slots=True)
class Processes:
    """The same in `count` processes, which start at once, while records are still read. One that dies ends
    the phase with a message."""

    directory: Path
    settings: Settings
    count: int
    spent: dict[Phase, Spent] = field(default_factory=dict)
    _pool: ProcessPoolExecutor = field(init=False)
    _told: Any = field(init=False)
    _stop: Any = field(init=False)

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._told, self._stop = context.Queue(), context.Event()
        self._pool = ProcessPoolExecutor(
            self.count,
            mp_context=context,
            initializer=_begin,
            initargs=(self.directory, self.settings, self._told, self._stop, os.getpid()),
        )
        for _ in range(self.count):
            self._pool.submit(_ready)

    def run(self, phase: Phase, partitions: Sequence[int], as_of_ms: int, moved: Moved) -> bool:
        """All partitions; False when `moved` stopped them. Raises OperatorError."""
        whole, untold, pending = True, 0, set[Future[_Outcome]]()
        try:
            pending = {self._pool.submit(_work, phase, one, as_of_ms) for one in partitions}
            while pending:
                done, pending = wait(pending, TOLD_EVERY_S, FIRST_COMPLETED)
                for outcome in (self._took(phase, one) for one in done):
                    whole, untold = outcome.whole and whole, untold + outcome.moved
                untold -= self._tell(phase, moved)
            self._move(untold, moved)  # what is still on its way through the queue
        except BrokenProcessPool as error:
            raise OperatorError(
                "a process of the replay died (killed, or out of memory?); resume the job, perhaps with "
                "fewer --jobs: nothing is lost",
                ExitCode.INTERNAL,
            ) from error
        finally:
            for one in pending:
                one.cancel()
        return whole

    def _tell(self, phase: Phase, moved: Moved) -> int:
        """Pass on what has come; what comes late, of a phase before, was counted at its end."""
        count = 0
        while not self._told.empty():
            of, some = self._told.get()
            count += some if of == phase else 0
        self._move(count, moved)
        return count

    def _move(self, count: int, moved: Moved) -> None:
        if not moved(count):
            self._stop.set()

    def _took(self, phase: Phase, step: Future[_Outcome]) -> _Outcome:
        """How a step came to its end. Raises the OperatorError that ended it."""
        found = step.result()
        self.spent.setdefault(phase, Spent()).add(found.spent)
        if found.message:
            self._stop.set()
            raise OperatorError(found.message, ExitCode(found.exit_code))
        return found

    def close(self) -> None:
        """End the processes."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


# -- in each process ---------------------------------------------------------------------------------------

_here: _Here


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a step ended, and how many of its units it did; `message`, `exit_code`: of the OperatorError that
    ended it."""

    whole: bool
    moved: int = 0
    spent: Spent = field(default_factory=Spent)
    message: str = ""
    exit_code: int = 0


@dataclass(slots=True)
class _Here:
    """What a process of the pool holds for its life."""

    directory: Path
    settings: Settings
    told: Any
    stop: Any
    parent: int
    steps: Steps | None = None
    phase: Phase = "users"
    step: int = 0
    held: int = 0
    told_s: float = 0.0

    def begin(self, phase: Phase) -> None:
        """A step begins."""
        self.phase, self.step, self.held = phase, 0, 0

    def moved(self, count: int) -> bool:
        """Tell now and then; False when asked to stop, or when whoever started us is gone."""
        self.step += count
        self.held += count
        if time.monotonic() - self.told_s >= TOLD_EVERY_S:
            self.tell()
        return not self.stop.is_set() and os.getppid() == self.parent

    def tell(self) -> None:
        """Say what is done."""
        self.told.put((self.phase, self.held))
        self.held, self.told_s = 0, time.monotonic()


def _begin(directory: Path, settings: Settings, told: Any, stop: Any, parent: int) -> None:
    global _here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    held = os.open(directory / ORPHANS_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    if sys.platform == "linux":  # whatever kills the parent kills us; elsewhere `moved` notices
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    fcntl.flock(held, fcntl.LOCK_SH)  # until we end: whoever resumes the job waits for that
    if os.getppid() != parent:  # it died while we started, and nobody will tell us any more
        os._exit(1)
    _here = _Here(directory, settings, told, stop, parent)


def _ready() -> None:
    """A process has to be there, and to have imported all this, for it to come here."""


def _work(phase: Phase, partition: int, as_of_ms: int) -> _Outcome:
    here, cpu_s = _here, time.process_time()
    if here.stop.is_set():
        return _Outcome(False)
    try:
        if here.steps is None:
            here.steps = open_steps(here.directory, here.settings)
        here.steps.spent = Spent()
        here.begin(phase)
        whole = asyncio.run(run_step(here.steps, phase, partition, as_of_ms, here.moved))
        if os.getppid() != here.parent:
            os._exit(1)
        here.steps.spent.cpu_s = time.process_time() - cpu_s
        return _Outcome(whole, here.step, here.steps.spent)
    except OperatorError as error:
        spent = Spent(time.process_time() - cpu_s)
        return _Outcome(False, spent=spent, message=error.message, exit_code=int(error.exit_code))


Runner = Inline | Processes


def runner(directory: Path, settings: Settings, jobs: int) -> Runner:
    """Steps in `jobs` processes; 1: in this one."""
    return Inline(directory, settings) if jobs == 1 else Processes(directory, settings, jobs)
