"""Who runs a job (all steps): one process, with a lock on the directory and a lease in the log.

The lock is the kernel's: it goes when the process dies, however that happens. The lease tells other machines.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from streams.data_dir import claimed
from streams.errors import ExitCode, OperatorError
from streams.log import logger
from topologies.replay.job import LEASE_MS, NEXT, Entry, Job, State
from topologies.replay.job_log import JobLog

RENEW_S = 5.0
ORPHANS_S_MAX = 60.0
ORPHANS_FILE = "steps.lock"

log = logger(__name__)


def who() -> str:
    """User and host, as transitions are signed."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def now_ms() -> int:
    """Wall clock, for people and leases."""
    return time.time_ns() // 1_000_000


def move(jobs: JobLog, job: Job, state: State, note: str = "", **fields: int | str) -> Job:
    """Record a transition of a job as it was seen. Raises OperatorError when it may not or came too late."""
    demand_may(job, state)
    entry = Entry(
        job.id,
        job.version + 1,
        uuid.uuid4().hex,
        who(),
        now_ms(),
        state,
        note=note,
        **fields,  # type: ignore[arg-type]
    )
    if not jobs.append(entry):
        raise OperatorError(
            f"job {job.id} was moved by somebody else at this moment; look at `feedrank jobs show {job.id}` "
            "and decide again",
            ExitCode.BAD_INPUT,
        )
    return jobs.jobs()[job.id]


def demand_may(job: Job, state: State) -> None:
    """Raises OperatorError when a job cannot go to that state from where it is."""
    if state not in NEXT[job.state]:
        raise OperatorError(
            f"job {job.id} is {job.state}: it cannot become {state}; `feedrank jobs show {job.id}` tells how "
            "it came there",
            ExitCode.BAD_INPUT,
        )


def submit(jobs: JobLog, job_id: str, namespace: str, directory: Path) -> Job:
    """Record a new job. Raises OperatorError where another one of that namespace is not over."""
    demand_alone(jobs, job_id, namespace)
    where = str(directory.absolute())
    job = move(
        jobs, Job(job_id), State.SUBMITTED, namespace=namespace, directory=where, host=socket.gethostname()
    )
    try:
        demand_alone(jobs, job_id, namespace)
    except OperatorError as error:
        move(jobs, job, State.CANCELLED, error.message)
        raise
    return job


def demand_alone(jobs: JobLog, job_id: str, namespace: str) -> None:
    """Raises OperatorError while a job before this one builds into the namespace, from whatever machine: both
    would write the same feeds. Of two at once the first in the log stays."""
    for job in jobs.jobs().values():
        if job.id == job_id:
            return
        if job.namespace == namespace and not job.over:
            raise OperatorError(
                f"job {job.id} of {job.history[0].who} builds into {namespace} and is {job.state}; choose "
                f"another --into, or give that one up: `feedrank jobs cancel {job.id}`",
                ExitCode.NOT_READY,
            )


@dataclass(slots=True)
class Custody:
    """Within it this process, and no other, runs the job; `over` says why it must stop (None: go on).

    Leaving it without `finish` records `failed` with the error, or nothing when somebody moved the job.
    """

    jobs: JobLog
    job: Job
    directory: Path
    over: Job | None = None
    done: int = 0
    total: int = 0
    _looked_s: float = field(default_factory=time.monotonic)
    _exit: Callable[..., object] = lambda *_: None

    def __enter__(self) -> Custody:
        demand_may(self.job, State.RUNNING)
        lock = locked(self.job, self.directory)
        lock.__enter__()
        self._exit = lock.__exit__
        try:
            self._demand_lease_is_over()
            lease_ms = now_ms() + LEASE_MS
            host, pid = socket.gethostname(), os.getpid()
            self.job = move(self.jobs, self.job, State.RUNNING, host=host, pid=pid, lease_until_ms=lease_ms)
        except BaseException:
            self._exit(None, None, None)
            raise
        return self

    def _demand_lease_is_over(self) -> None:
        """A lease of this host is over with its process, as we hold the lock; another's ends by the clock."""
        holder = self.job.holder
        left_ms = self.job.lease_until_ms - now_ms()
        if self.job.state is State.RUNNING and holder.host != socket.gethostname() and left_ms > 0:
            raise OperatorError(
                f"job {self.job.id} is run by process {holder.pid} on {holder.host}, with a lease for "
                f"another {left_ms // 1_000 + 1} s; pause it first, or wait until the lease is over",
                ExitCode.FENCED,
            )

    def goes_on(self, done: int, total: int) -> bool:
        """Renew the lease and look into the log now and then; False when somebody has moved the job."""
        self.done, self.total = done, total
        if self.over is None and time.monotonic() - self._looked_s >= RENEW_S:
            self._looked_s = time.monotonic()
            self._renew()
        return self.over is None

    def _renew(self) -> None:
        entry = Entry(
            self.job.id,
            self.job.version,
            uuid.uuid4().hex,
            who(),
            now_ms(),
            lease_until_ms=now_ms() + LEASE_MS,
            done=self.done,
            total=self.total,
        )
        try:
            if not self.jobs.append(entry):
                self.over = self.jobs.jobs()[self.job.id]
        except OperatorError as error:  # the lock holds; the log is asked again
            log.warning("cannot renew the lease of the job", job=self.job.id, why=error.message)

    def finish(self, state: State, note: str = "") -> None:
        """Record how it ended. Raises OperatorError when somebody else has moved the job meanwhile."""
        self.job = move(self.jobs, self.job, state, note, done=self.done, total=self.total)
        self.over = self.job

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            if error is not None and self.over is None:
                said = error.message if isinstance(error, OperatorError) else repr(error)
                self.finish(State.FAILED, said)
        except OperatorError as unsaid:
            log.warning("cannot record how the job ended", job=self.job.id, why=unsaid.message)
        finally:
            self._exit(None, None, None)


@contextmanager
def locked(job: Job, directory: Path) -> Iterator[None]:
    """Hold the job's directory. Raises OperatorError when it is not here, or another process has it."""
    if not directory.is_dir():
        raise OperatorError(
            f"the state of job {job.id} lies in {directory} on {job.history[0].host}, which is not here; "
            "resume it there",
            ExitCode.DATA_DIRECTORY,
        )
    with ExitStack() as held:
        try:
            held.enter_context(claimed(directory))
        except OperatorError as error:
            why = error.message.partition(";")[0]
            raise OperatorError(
                f"job {job.id} runs already, or its directory cannot be had: {why}. Two processes cannot run "
                f"one job; `feedrank jobs pause {job.id}` stops the other one",
                ExitCode.FENCED,
            ) from error
        _await_orphans(directory)
        yield


def _await_orphans(directory: Path) -> None:
    """Steps of a process that was killed notice it within moments; until then their files are theirs."""
    with (directory / ORPHANS_FILE).open("a") as file:
        deadline_s = time.monotonic() + ORPHANS_S_MAX
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline_s:
                    raise OperatorError(
                        f"processes of a replay that was killed still work in {directory}; end them, then "
                        "resume the job",
                        ExitCode.FENCED,
                    ) from None
                time.sleep(0.1)
            else:
                return
