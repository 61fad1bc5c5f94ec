"""The topics that a namespace needs, and what is wrong with those that are there (before step 1).

Pure: `streams/topics_admin.py` asks the broker. Which count and policy each topic needs, and why, is the
table made by `desired`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from streams.errors import ExitCode, OperatorError
from streams.limits import CLOCK_AHEAD_MS_MAX
from wire.names import ACTIVITIES, DEAD_LETTERS, ITEMS, Namespace

PARTITIONS_DEFAULT = 4
REPLICATION_SAFE = 3
MIN_ISR_SAFE = 2
DAY_MS = 86_400_000
RETENTION_MS = 7 * DAY_MS
REPLAY_HORIZON_MS = 7 * DAY_MS
TOMBSTONE_RETENTION_MS = DAY_MS
MESSAGE_BYTES_MIN = (4 << 20) + (64 << 10)
MESSAGE_BYTES_MAX = 8 << 20
TIMESTAMP_AHEAD = "message.timestamp.after.max.ms"
"""Kafka 3.6 and later: how far a record's timestamp may lie after the broker's clock. Unset: any distance."""
NO_BOUND_MS = (1 << 63) - 1

Policy = Literal["delete", "compact"]


@dataclass(frozen=True, slots=True)
class Desired:
    """One topic as feedrank needs it. `partitions_of` names the topic whose count it must share.

    `timed`: producers of all kinds write it, and the time of their records counts.
    """

    name: str
    policy: Policy
    role: str
    partitions_of: str | None = None
    changelog: bool = False
    large: bool = False
    lag_ms: int = 0
    timed: bool = False

    def config(self) -> dict[str, str]:
        """The configuration that `topics create` gives it."""
        found: dict[str, str] = {"cleanup.policy": self.policy}
        if self.policy == "delete":
            found["retention.ms"] = str(RETENTION_MS)
        else:
            found["delete.retention.ms"] = str(TOMBSTONE_RETENTION_MS)
        if self.lag_ms:
            found["min.compaction.lag.ms"] = str(self.lag_ms)
        if self.large:
            found["max.message.bytes"] = str(MESSAGE_BYTES_MAX)
        if self.timed:
            found[TIMESTAMP_AHEAD] = str(CLOCK_AHEAD_MS_MAX)
        return found


def desired(names: Namespace) -> tuple[Desired, ...]:
    """All topics of a namespace: the three public ones first."""
    deltas = names.item_deltas
    return (
        Desired(ACTIVITIES, "delete", "activities by actor", timed=True),
        Desired(ITEMS, "compact", "items", lag_ms=REPLAY_HORIZON_MS, timed=True),
        Desired(DEAD_LETTERS, "delete", "records set aside"),
        Desired(deltas, "delete", "item deltas", ACTIVITIES, large=True),
        Desired(names.item_features, "compact", "item statistics for all workers", ACTIVITIES, large=True),
        Desired(names.served, "delete", "what was shown, and why", ACTIVITIES),
        Desired(names.users_changelog, "compact", "user rows", ACTIVITIES, changelog=True, large=True),
        Desired(names.item_rows_changelog, "compact", "item rows", deltas, changelog=True, large=True),
    )


@dataclass(frozen=True, slots=True)
class Found:
    """One topic as the broker has it; `config` is empty where the broker cannot say (embedded)."""

    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong (the worker refuses to start) or unwise, and what to do.

    `at_start`: a warning that the worker's log has, too.
    """

    severity: Literal["error", "warning"]
    topic: str
    message: str
    at_start: bool = False

    def __str__(self) -> str:
        return f"{self.severity}: {self.topic}: {self.message}"


@dataclass(frozen=True, slots=True)
class Report:
    """What the broker has and what is to be said about it."""

    found: Mapping[str, Found]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "error")

    def demand(self) -> None:
        """Raises OperatorError (topics wrong) with every error; warnings pass."""
        if self.errors:
            absent = [f.topic for f in self.errors if f.topic not in self.found]
            lines = [f"{f.topic}: {f.message}" for f in self.errors if f.topic in self.found]
            if absent:
                there = "the topic is" if len(absent) == 1 else f"{len(absent)} topics are"
                lines.insert(0, f"{there} missing: {', '.join(absent)}; `feedrank topics create` makes them")
            raise OperatorError("\n".join(lines), ExitCode.TOPICS_WRONG)


def judge(wanted: Iterable[Desired], found: Mapping[str, Found], embedded: bool = False) -> Report:
    """Compare; an embedded broker has no configuration to compare and no replication to warn about."""
    findings: list[Finding] = []
    for one in wanted:
        there = found.get(one.name)
        if there is None:
            what = f"missing ({one.role}); `feedrank topics create` makes it"
            findings.append(Finding("error", one.name, what))
            continue
        findings += _partitions(one, there, found)
        if not embedded:
            findings += _policy(one, there.config)
            findings += _sizes(one, there.config)
            findings += _times(one, there.config)
    if not embedded:
        findings += _durability(found)
    return Report(found, tuple(findings))


def _partitions(one: Desired, there: Found, found: Mapping[str, Found]) -> Iterator[Finding]:
    other = found.get(one.partitions_of) if one.partitions_of else None
    if other and other.partitions != there.partitions:
        yield Finding(
            "error",
            one.name,
            f"has {there.partitions} partitions, but {one.partitions_of} has {other.partitions}; they must "
            "be equal. Use another FEEDRANK_NAMESPACE (its topics are made to match), or delete and create "
            f"{one.name} if nothing in it is needed",
        )


def _policy(one: Desired, config: Mapping[str, str]) -> Iterator[Finding]:
    policy = {part.strip() for part in config.get("cleanup.policy", "delete").split(",")}
    set_it = f"set it with kafka-configs: cleanup.policy={one.policy}"
    if one.policy == "delete" and "compact" in policy:
        why = f"cleanup.policy is {_join(policy)}: records of one key would vanish; {set_it}"
        yield Finding("error", one.name, why)
    elif one.policy == "compact" and "compact" not in policy:
        why = f"cleanup.policy is {_join(policy)}: old {one.role} would vanish and the log grow; {set_it}"
        yield Finding("error", one.name, why)
    elif one.changelog and "delete" in policy:
        why = f"cleanup.policy is {_join(policy)}: rows older than the retention would be lost; {set_it}"
        yield Finding("error", one.name, why)
    if one.lag_ms and "compact" in policy and _number(config, "min.compaction.lag.ms", 0) < one.lag_ms:
        why = (
            f"min.compaction.lag.ms is below {one.lag_ms} (7 days): a replay of that time would see items as "
            "they are now, not as they were; raise it"
        )
        yield Finding("warning", one.name, why)
    retention_ms = _number(config, "retention.ms", RETENTION_MS)
    if one.policy == "delete" and 0 <= retention_ms < DAY_MS:
        why = f"retention.ms is {retention_ms}: a worker down for longer loses records; raise it to a day"
        yield Finding("warning", one.name, why)


def _sizes(one: Desired, config: Mapping[str, str]) -> Iterator[Finding]:
    bytes_max = _number(config, "max.message.bytes", MESSAGE_BYTES_MIN)
    if one.large and bytes_max < MESSAGE_BYTES_MIN:
        why = (
            f"max.message.bytes is {bytes_max}: a checkpoint's batches would be refused; "
            f"set it to {MESSAGE_BYTES_MIN} or more"
        )
        yield Finding("error", one.name, why)


def _times(one: Desired, config: Mapping[str, str]) -> Iterator[Finding]:
    """A producer with a wrong clock moves time for all; only the broker can refuse its records."""
    by_broker = config.get("message.timestamp.type") == "LogAppendTime"
    ahead_ms = _number(config, TIMESTAMP_AHEAD, NO_BOUND_MS)
    if not one.timed or by_broker or ahead_ms <= CLOCK_AHEAD_MS_MAX:
        return
    harm = "records of a producer whose clock is ahead are taken, and move time for all users"
    if TIMESTAMP_AHEAD in config:
        what = f"--entity-type topics --entity-name {one.name}"
        how = f"--alter {what} --add-config {TIMESTAMP_AHEAD}={CLOCK_AHEAD_MS_MAX}"
        why = f"{TIMESTAMP_AHEAD} is {ahead_ms}: {harm}; kafka-configs.sh --bootstrap-server ... {how}"
    else:
        why = f"the broker does not know {TIMESTAMP_AHEAD} (Kafka 3.6): {harm}; upgrade it, then set that"
    yield Finding("warning", one.name, why, at_start=True)


def _durability(found: Mapping[str, Found]) -> Iterator[Finding]:
    """One warning for all topics: a test broker would else say the same eight times."""
    thin = sorted(name for name, there in found.items() if there.replication < REPLICATION_SAFE)
    if thin:
        why = (
            f"replication below {REPLICATION_SAFE}: records can be lost with a broker (fine for a test; "
            f"production needs replication {REPLICATION_SAFE} and min.insync.replicas {MIN_ISR_SAFE})"
        )
        yield Finding("warning", thin[0] if len(thin) == 1 else f"{len(thin)} topics", why)
    for name, there in sorted(found.items()):
        enough = there.replication >= REPLICATION_SAFE
        if enough and _number(there.config, "min.insync.replicas", MIN_ISR_SAFE) < MIN_ISR_SAFE:
            why = f"min.insync.replicas is below {MIN_ISR_SAFE}: an acknowledged record can be lost; raise it"
            yield Finding("warning", name, why)
        if there.config.get("unclean.leader.election.enable") == "true":
            why = "unclean.leader.election.enable is true: acknowledged records can be lost; set it to false"
            yield Finding("warning", name, why)


def _number(config: Mapping[str, str], name: str, absent: int) -> int:
    return int(config.get(name) or absent)


def _join(policy: set[str]) -> str:
    return ",".join(sorted(policy))
