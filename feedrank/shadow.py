"""May readers be sent to a namespace? What promote and canary ask before they switch anything."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass

from streams.errors import ExitCode, OperatorError
from streams.route_board import RouteBoard
from streams.settings import Settings
from streams.topics_admin import TopicsAdmin
from topologies.replay.custody import now_ms
from topologies.replay.job import State
from topologies.replay.job_log import JobLog
from wire.names import ACTIVITIES, Namespace
from wire.route import Route

SURFACE = "for_you"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a namespace is: partitions whose group never committed, records behind, feeds in Redis."""

    namespace: str
    unread: tuple[int, ...]
    lag: int
    feeds: int

    def __str__(self) -> str:
        behind = f"{self.lag:,} records behind" if not self.unread else f"partitions {self.unread} never read"
        return f"{self.namespace}: {behind}, {self.feeds:,} feeds"


def standing(settings: Settings, board: RouteBoard, namespace: str) -> Standing:
    """Ask Kafka and Redis. Raises OperatorError for a name that cannot be, or where Kafka does not answer."""
    try:
        names = Namespace(namespace)
    except ValueError as error:
        raise OperatorError(str(error)) from error
    lags = TopicsAdmin(settings.kafka, names).lag()
    unread = tuple(lag.partition for lag in lags if lag.committed < 0 < lag.end)
    return Standing(namespace, unread, sum(lag.records for lag in lags), board.feeds(names, SURFACE))


def demand(shadow: Standing, live: Standing, lag_max: int, smaller_max: float) -> None:
    """Raises OperatorError (NOT_READY) when readers of `live` would lose something in `shadow`."""
    name = shadow.namespace
    if shadow.unread and not shadow.feeds:
        why = f"there is no namespace {name}: its group never read {ACTIVITIES} and Redis holds no feed of it"
        todo = f"rebuild it first: `feedrank replay ... --into {name}`"
    elif shadow.unread or shadow.lag > lag_max:
        why = f"{name} is behind: {shadow}; at most {lag_max:,} are allowed (--lag-max)"
        todo = f"let it catch up: `feedrank catch-up {name}`"
    elif shadow.feeds < live.feeds * (1 - smaller_max):
        why = (
            f"{name} has {shadow.feeds:,} feeds, {live.namespace} has {live.feeds:,}; it may have "
            f"{smaller_max:.1%} fewer (--smaller-max)"
        )
        todo = f"rank its users: `FEEDRANK_NAMESPACE={name} feedrank settle`"
    else:
        return
    raise OperatorError(f"{why}. Readers stay where they are; {todo}", ExitCode.NOT_READY)


def demand_no_replay(log: JobLog, namespace: str) -> None:
    """Raises OperatorError (NOT_READY) while the newest replay into a namespace is not at its end."""
    jobs = [job for job in log.jobs().values() if job.namespace == namespace]
    if not jobs or jobs[-1].over:
        return
    job = jobs[-1]
    if job.state is State.RUNNING and job.lease_until_ms >= now_ms():
        todo = f"wait until `feedrank jobs show {job.id}` says that it is finished"
    else:
        todo = f"let it go on with `feedrank jobs resume {job.id}`"
    raise OperatorError(
        f"the replay into {namespace} is {job.state}, so that its feeds are not whole. Readers stay where "
        f"they are; {todo}, or give it up with `feedrank jobs cancel {job.id}`",
        ExitCode.NOT_READY,
    )


def who() -> str:
    """The operator, for the history: LOGNAME or USER, else the user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"


def readers(route: Route) -> str:
    """Who reads what, in one line."""
    splits = "".join(f", {split.share:.2%} {split.namespace}" for split in route.splits)
    return f"{route.default}{splits} (version {route.version}, generation {route.generation})"
