"""A replay as a job (all steps): its states, who may change them, and how a log of transitions is read.

Whoever wants to move a job appends a transition with the version that follows the one that they saw. Of two
that saw the same, the first in the log counts and the other is void: so two operators cannot both win, and a
job only moves forward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

LEASE_MS = 30_000


class State(StrEnum):
    """Where a job stands."""

    SUBMITTED = "submitted"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


NEXT: dict[State | None, frozenset[State]] = {
    None: frozenset({State.SUBMITTED}),
    State.SUBMITTED: frozenset({State.RUNNING, State.CANCELLED}),
    State.RUNNING: frozenset(
        {State.RUNNING, State.PAUSED, State.FINISHED, State.FAILED, State.CANCELLED}
    ),  # to itself: taken over from a process that died
    State.PAUSED: frozenset({State.RUNNING, State.CANCELLED}),
    State.FAILED: frozenset({State.RUNNING, State.CANCELLED}),
    State.FINISHED: frozenset(),
    State.CANCELLED: frozenset(),
}
"""From each state, where a job may go."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the log. `state` None: a sign of life of who runs version `version`, with a new lease.

    `entry`: unique, to find one's own again. `who`: user and host; `done` of `total` steps' units.
    """

    job: str
    version: int
    entry: str
    who: str
    at_ms: int
    state: State | None = None
    namespace: str = ""
    directory: str = ""
    host: str = ""
    pid: int = 0
    lease_until_ms: int = 0
    note: str = ""
    done: int = 0
    total: int = 0

    def encode(self) -> bytes:
        """One line of JSON, what is empty left out."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if value}
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def decode(cls, line: bytes) -> Entry:
        """Raises ValueError for what is no entry."""
        try:
            fields: dict[str, Any] = orjson.loads(line)
            state = fields.pop("state", None)
            return cls(**fields, state=None if state is None else State(state))
        except TypeError as error:
            raise ValueError(str(error)) from error


@dataclass(slots=True)
class Job:
    """What the log says of one job. `history`: the transitions that counted, oldest first."""

    id: str
    history: list[Entry] = field(default_factory=list)
    lease_until_ms: int = 0
    done: int = 0
    total: int = 0

    @property
    def state(self) -> State | None:
        return self.history[-1].state if self.history else None

    @property
    def version(self) -> int:
        return self.history[-1].version if self.history else 0

    @property
    def namespace(self) -> str:
        return self.history[0].namespace

    @property
    def directory(self) -> str:
        return self.history[0].directory

    @property
    def holder(self) -> Entry:
        """Who moved it last."""
        return self.history[-1]

    @property
    def over(self) -> bool:
        """Whether nothing can move it any more."""
        return not NEXT[self.state]

    def accepts(self, entry: Entry) -> bool:
        """Whether an entry that follows counts."""
        if entry.state is None:
            return self.state is State.RUNNING and entry.version == self.version
        return entry.version == self.version + 1 and entry.state in NEXT[self.state]

    def take(self, entry: Entry) -> bool:
        """Read the next entry; False when it is void."""
        if not self.accepts(entry):
            return False
        if entry.state is not None:
            self.history.append(entry)
        self.lease_until_ms = entry.lease_until_ms
        if entry.total:
            self.done, self.total = entry.done, entry.total
        return True


def fold(entries: Iterable[Entry]) -> dict[str, Job]:
    """All jobs of a log, in the order in which they were submitted."""
    jobs: dict[str, Job] = {}
    for entry in entries:
        job = jobs.get(entry.job) or Job(entry.job)
        if job.take(entry):
            jobs[entry.job] = job
    return jobs
