"""Steps of a replay over its partitions, in this process or in several (all steps).

Processes share nothing but the shadow's directory, where each partition's files have one owner at a time, and
the count of partitions that were taken.
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
from collections.abc import Iterable, Iterator, Sequence
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
TOLD_EVERY_S, TAKE_S = 0.2, 10.0
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

    def run(self, phase: Phase, partitions: Iterable[int], as_of_ms: int, moved: Moved) -> bool:
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


class Processes:
    """The same in this process and `count` - 1 others, which start at once, while records are still read.
    Whoever is free takes the next partition, the largest ones first. One that dies ends the phase with a
    message."""

    def __init__(self, directory: Path, settings: Settings, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._directory, self._others = directory, count - 1
        self._own = Inline(directory, settings)
        self.spent = self._own.spent
        self._told, self._stop, self._taken = context.Queue(), context.Event(), context.Value("i", 0)
        shared = (directory, settings, self._told, self._stop, self._taken, os.getpid())
        self._pool = ProcessPoolExecutor(
            self._others, mp_context=context, initializer=_begin, initargs=shared
        )
        for _ in range(self._others):
            self._pool.submit(_ready)

    def run(self, phase: Phase, partitions: Iterable[int], as_of_ms: int, moved: Moved) -> bool:
        """All partitions; False when `moved` stopped them. Raises OperatorError."""
        sizes = Shadow(self._directory).definition()
        todo = sorted(partitions, key=lambda p: sizes.starts[p] - sizes.ends[p])
        self._taken.value = 0
        untold, pending = 0, set[Future[_Outcome]]()

        def heard(count: int) -> bool:
            nonlocal untold
            told = self._heard(phase)
            untold -= told
            if not moved(count + told) or any(_failed(one) for one in pending):
                self._stop.set()
            return not self._stop.is_set()

        try:
            pending = {self._pool.submit(_work, phase, todo, as_of_ms) for _ in range(self._others)}
            whole = self._own.run(phase, _untaken(self._taken, todo), as_of_ms, heard)
            while pending:
                done, pending = wait(pending, TOLD_EVERY_S, FIRST_COMPLETED)
                for outcome in (self._took(phase, one) for one in done):
                    whole, untold = outcome.whole and whole, untold + outcome.moved
                heard(0)
            moved(untold)  # what is still on its way through the queue
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

    def _heard(self, phase: Phase) -> int:
        """What has come from the others; what comes late, of a phase before, was counted at its end."""
        count = 0
        while not self._told.empty():
            of, some = self._told.get()
            count += some if of == phase else 0
        return count

    def _took(self, phase: Phase, work: Future[_Outcome]) -> _Outcome:
        """How another's work came to its end. Raises the OperatorError that ended it."""
        found = work.result()
        self.spent.setdefault(phase, Spent()).add(found.spent)
        if found.message:
            self._stop.set()
            raise OperatorError(found.message, ExitCode(found.exit_code))
        return found

    def close(self) -> None:
        """End the others."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _failed(work: Future[_Outcome]) -> bool:
    return work.done() and not work.cancelled() and (work.exception() is not None or not work.result().whole)


def _untaken(taken: Any, partitions: Sequence[int]) -> Iterator[int]:
    """Partitions that no process has taken yet; `taken`: how many they have. Raises BrokenProcessPool when
    one was killed while it took one."""
    while True:
        if not taken.acquire(timeout=TAKE_S):
            raise BrokenProcessPool("nobody gives back the count of partitions")
        try:
            at, taken.value = taken.value, taken.value + 1
        finally:
            taken.release()
        if at >= len(partitions):
            return
        yield partitions[at]


# -- in each process ---------------------------------------------------------------------------------------

_here: _Here


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How the work of a phase ended, and how many of its units it did; `message`, `exit_code`: of the
    OperatorError that ended it."""

    whole: bool
    moved: int = 0
    spent: Spent = field(default_factory=Spent)
    message: str = ""
    exit_code: int = 0


@dataclass(slots=True)
class _Here:
    """What a process of the pool holds for its life."""

    steps: Inline
    told: Any
    stop: Any
    taken: Any
    parent: int
    phase: Phase = "users"
    did: int = 0
    held: int = 0
    told_s: float = 0.0

    def begin(self, phase: Phase) -> None:
        """The work of a phase begins."""
        self.phase, self.did, self.held, self.steps.spent = phase, 0, 0, {}

    def moved(self, count: int) -> bool:
        """Tell now and then; False when asked to stop, or when whoever started us is gone."""
        self.did += count
        self.held += count
        if time.monotonic() - self.told_s >= TOLD_EVERY_S:
            self.tell()
        return not self.stop.is_set() and os.getppid() == self.parent

    def tell(self) -> None:
        """Say what is done."""
        self.told.put((self.phase, self.held))
        self.held, self.told_s = 0, time.monotonic()


def _begin(directory: Path, settings: Settings, told: Any, stop: Any, taken: Any, parent: int) -> None:
    global _here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    held = os.open(directory / ORPHANS_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    if sys.platform == "linux":  # whatever kills the parent kills us; elsewhere `moved` notices
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    fcntl.flock(held, fcntl.LOCK_SH)  # until we end: whoever resumes the job waits for that
    if os.getppid() != parent:  # it died while we started, and nobody will tell us any more
        os._exit(1)
    _here = _Here(Inline(directory, settings), told, stop, taken, parent)


def _ready() -> None:
    """A process has to be there, and to have imported all this, for it to come here."""


def _work(phase: Phase, partitions: Sequence[int], as_of_ms: int) -> _Outcome:
    here = _here
    if here.stop.is_set():
        return _Outcome(False)
    here.begin(phase)
    message, code, whole = "", 0, False
    try:
        whole = here.steps.run(phase, _untaken(here.taken, partitions), as_of_ms, here.moved)
    except OperatorError as error:
        message, code = error.message, int(error.exit_code)
    if os.getppid() != here.parent:
        os._exit(1)
    return _Outcome(whole, here.did, here.steps.spent.get(phase, Spent()), message, code)


Runner = Inline | Processes


def runner(directory: Path, settings: Settings, jobs: int) -> Runner:
    """Steps in `jobs` processes, of which more than partitions would have nothing to do; 1: in this one."""
    count = min(jobs, Shadow(directory).definition().partitions)
    return Inline(directory, settings) if count == 1 else Processes(directory, settings, count)
