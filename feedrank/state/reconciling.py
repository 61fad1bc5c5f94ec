"""`state verify` and `state repair`: stored rows beside recomputed ones, partition by partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from models.policy import parse_policy
from streams.codec import Decoder
from streams.data_dir import claimed
from streams.durable import POSITION_KEY, Position
from streams.errors import ExitCode, OperatorError
from streams.policy_file import policy_text, read_policy
from streams.settings import Settings
from topologies.recompute import Recomputing, UserRowsOf
from topologies.reconcile import Finding, Verdict, reconcile
from topologies.repair import mend_shard
from topologies.replay.kafka_log import KafkaLog, find_range
from topologies.replay.pool import FETCH_RECORDS, open_steps, registry_of
from topologies.replay.shadow import Definition, Shadow
from topologies.replay.steps import Steps
from topologies.shadow_feeds import on_disk
from topologies.stored_rows import DiskRows, StoredRows, TopicRows, user_of_key
from wire.names import ACTIVITIES, Namespace
from wire.partitioner import partition_of
from wire.route import point

Told = Callable[[str, int, int], None]
"""(what, done, of how many)"""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whose rows: `users` where they are named, else those below `share`, drawn by `seed`."""

    users: frozenset[str] | None
    share: float
    seed: int

    def __call__(self, user: bytes) -> bool:
        name = user.decode(errors="surrogateescape")
        if self.users is not None:
            return name in self.users
        return self.share >= 1 or point(f"verify-{self.seed}", name) < self.share

    def partitions(self, count: int) -> list[int]:
        """Where they live."""
        if self.users is None:
            return list(range(count))
        return sorted({partition_of(user.encode(), count) for user in self.users})


@dataclass(slots=True)
class Outcome:
    """`verdicts` by how many users; `findings`: users that are not the same; `mended`: rows written."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    mended: int = 0

    @property
    def users(self) -> int:
        return self.verdicts.total()


@dataclass(frozen=True, slots=True)
class Reconciling:
    """One namespace, opened. `starts`: the first offset that its rows hold, by partition; `lost`: whether the
    log has lost records that the rows may hold."""

    settings: Settings
    names: Namespace
    stored: StoredRows
    recomputing: Recomputing
    starts: Mapping[int, int]
    lost: bool
    told: Told

    async def verify(self, chosen: Chosen, in_time_order: bool) -> Outcome:
        """Every difference of the chosen users."""
        outcome = Outcome()
        for partition in chosen.partitions(self.stored.partitions):
            stored, again, _ = await self._both(partition, chosen, in_time_order)
            self._judge(stored, again, outcome)
        return outcome

    async def repair(self, chosen: Chosen, in_time_order: bool, items: bool) -> Outcome:
        """Write what is different. `items`: also where only interests differ. Raises OperatorError."""
        outcome = Outcome()
        wanted = {Verdict.DIFFERENT, Verdict.ITEMS} if items or in_time_order else {Verdict.DIFFERENT}
        for partition in chosen.partitions(self.stored.partitions):

            async def mend(at: int = partition) -> tuple[dict[bytes, bytes | None], bytes | None]:
                stored, again, position = await self._both(at, chosen, in_time_order)
                found = self._judge(stored, again, outcome)
                rows: dict[bytes, bytes | None] = {}
                for one in found:
                    if one.verdict in wanted:
                        new = again.get(one.id, {})
                        rows |= dict.fromkeys(stored.get(one.id, {}).keys() - new.keys())
                        old = stored.get(one.id, {})
                        rows |= {key: value for key, value in new.items() if old.get(key) != value}
                return rows, position

            outcome.mended += await mend_shard(self.settings, self.names, partition, mend)
        return outcome

    def _judge(self, stored: UserRowsOf, again: UserRowsOf, outcome: Outcome) -> list[Finding]:
        found = [
            reconcile(user, stored.get(user, {}), again.get(user, {}), not self.lost)
            for user in sorted(stored.keys() | again.keys())
        ]
        outcome.verdicts.update(one.verdict for one in found)
        different = [one for one in found if one.verdict is not Verdict.SAME]
        outcome.findings += different
        return different

    async def _both(
        self, partition: int, chosen: Chosen, in_time_order: bool
    ) -> tuple[UserRowsOf, UserRowsOf, bytes | None]:
        """Stored rows, those of the same position recomputed, and the position record."""

        def told(what: str) -> Callable[[int, int], None]:
            return lambda done, total: self.told(f"partition {partition}, {what}", done, total)

        rows = self.stored.newest("users", partition, lambda key: chosen(user_of_key(key)), told("rows"))
        position = rows.pop(POSITION_KEY, None)
        if position is None:
            if rows:
                raise OperatorError(
                    f"partition {partition} of {self.names.name} has rows and no position; delete nothing, "
                    "look at its changelog",
                    ExitCode.BAD_INPUT,
                )
            return {}, {}, None
        stored: UserRowsOf = {}
        for key, value in rows.items():
            stored.setdefault(user_of_key(key), {})[key] = value
        end = Position.decode(position).offset
        again = await self.recomputing.rows(
            partition, chosen, self.starts.get(partition, 0), end, in_time_order, told("activities")
        )
        return stored, again, position


def demand_live(settings: Settings, names: Namespace) -> None:
    """Raises OperatorError for rows on a replay's disk: those are made anew, not mended."""
    shadow = Shadow.of(settings.worker.data_dir, names)
    if on_disk(shadow):
        raise OperatorError(
            f"{names.name} is a replay's, in {shadow.directory}: its rows are not mended; replay into a new "
            "namespace"
        )


@asynccontextmanager
async def reconciling(settings: Settings, names: Namespace, told: Told) -> AsyncIterator[Reconciling]:
    """Opens a namespace: a replay's that never went on live on its disk, others in their topics."""
    shadow = Shadow.of(settings.worker.data_dir, names)
    if on_disk(shadow):
        with claimed(shadow.directory):
            steps = open_steps(shadow.directory, settings)
            one = steps.definition
            stored = DiskRows(shadow.directory, one.partitions)
            recomputing = await _recomputing(steps)
            yield Reconciling(settings, names, stored, recomputing, one.starts, False, told)
        return
    if shadow.exists and shadow.definition().read_ends:
        raise OperatorError(
            f"{names.name} was made with another number of partitions than its activities then had, so that "
            "older ones do not lie where its shards would look. Compare it with a replay: `feedrank digest`",
            ExitCode.TOPICS_WRONG,
        )
    kept = find_range(settings.kafka, None, None)
    starts, lost = dict(kept.starts), kept.lost > 0
    if shadow.exists:  # went on live: its rows begin where the replay did
        began = shadow.definition().starts
        starts = {partition: max(began.get(partition, 0), low) for partition, low in starts.items()}
        lost = any(began.get(partition, 0) < low for partition, low in kept.starts.items())
    with TopicRows(settings.kafka, names) as topics:
        if topics.partitions != len(starts):
            raise OperatorError(
                f"{names.name} has rows in {topics.partitions} partitions, {ACTIVITIES} has {len(starts)}: "
                "they were made of another topic, and nothing here can be compared",
                ExitCode.TOPICS_WRONG,
            )
        steps = _live_steps(settings, names, starts, kept.ends, kept.items_ends, shadow)
        yield Reconciling(settings, names, topics, await _recomputing(steps), starts, lost, told)


def _live_steps(
    settings: Settings,
    names: Namespace,
    starts: dict[int, int],
    ends: dict[int, int],
    items_ends: dict[int, int],
    shadow: Shadow,
) -> Steps:
    """The steps of a replay that is never written down."""
    path: Path | None = settings.worker.policy
    text = shadow.definition().policy if shadow.exists else policy_text(path)
    one = Definition(
        "verify",
        names.name,
        "kafka",
        len(starts),
        starts,
        ends,
        text,
        settings.ranking.tick_s * 1_000,
        items_ends=items_ends,
        value_format=settings.worker.format,
    )
    policy = parse_policy(text, str(shadow.directory)) if shadow.exists else read_policy(path)
    log = KafkaLog(settings.kafka, items_ends, FETCH_RECORDS)
    return Steps(shadow, one, settings, policy, log, registry_of(settings))


async def _recomputing(steps: Steps) -> Recomputing:
    one = steps.definition
    index = (await steps.catalogue()).index
    decoder = Decoder(one.value_format, steps.policy.verbs, one.partitions, steps.registry)
    return Recomputing(
        one.names, one.partitions, steps.policy.verbs, index, one.tick_ms, decoder, steps.registry, steps.log
    )
