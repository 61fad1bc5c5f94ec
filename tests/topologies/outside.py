"""What stands in for Kafka, RocksDB and Redis where the whole job runs in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.columns import ActivityColumns
from models.policy import Policy
from streams.batch import RecordBatch
from streams.dead_letters import DeadLetter, Reason
from streams.durable import POSITION_KEY, Cut, Row
from streams.feeds import FeedToWrite, Outcome
from streams.store import StoreClosed
from tests.fast_path import columns
from tests.oracle.records import Activity, Item
from topologies.settlement import SettleRequest
from topologies.ticks import TickMark
from wire.names import DEAD_LETTERS, Namespace
from wire.partitioner import partition_of

NAMES = Namespace("test")
USERS, ITEMS = "users", "items"

Key = tuple[str, int]
"""Job and partition."""


class Topics:
    """What the brokers hold. A bad activity is None."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.activities: list[list[Activity | None]] = [[] for _ in range(partitions)]
        self.items: list[Item] = []
        self.deltas: list[list[bytes | None]] = [[] for _ in range(partitions)]
        self.features: list[list[Row]] = [[] for _ in range(partitions)]
        self.changelogs: dict[Key, list[Row]] = {
            (job, p): [] for job in (USERS, ITEMS) for p in range(partitions)
        }
        self.letters: list[dict[str, bytes]] = []
        self.marks: list[TickMark] = []

    def produce(self, event: Item | Activity) -> None:
        if isinstance(event, Item):
            self.items.append(event)
        else:
            self.activities[partition_of(event.actor.encode(), self.partitions)].append(event)

    def commit(self, key: Key, cut: Cut) -> None:
        """One transaction."""
        self.changelogs[key] += cut.rows
        for message in cut.messages:
            if message.topic == DEAD_LETTERS:
                self.letters.append(dict(message.headers))
                continue
            assert message.partition is not None
            if message.topic == NAMES.item_deltas:
                self.deltas[message.partition].append(message.value)
            elif message.topic == NAMES.served:
                self.marks.append(TickMark.parse(message.value or b""))
            else:
                assert message.topic == NAMES.item_features
                self.features[message.partition].append((message.key or b"", message.value))

    def rows(self, job: str) -> dict[bytes, bytes | None]:
        """All rows of a job, the last of each key, without positions."""
        found: dict[bytes, bytes | None] = {}
        for (owner, _), log in self.changelogs.items():
            if owner == job:
                found.update(log)
        found.pop(POSITION_KEY, None)
        return found


class LocalStore:
    """The RocksDB of one shard on one worker's disk."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.changelog_next = 0
        self.closed = False

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._check()
        return [self.rows.get(key) for key in keys]

    def scan(self, prefix: bytes, rows_max: int = 7) -> Iterator[list[Row]]:
        keys = sorted(key for key in self.rows if key.startswith(prefix))
        for start in range(0, len(keys), rows_max):
            self._check()
            yield [(key, self.rows[key]) for key in keys[start : start + rows_max]]

    def write(self, rows: Iterable[Row]) -> None:
        self._check()
        self.rows.update((key, value) for key, value in rows if value is not None)

    def _check(self) -> None:
        if self.closed:
            raise StoreClosed("the shard was given up")


class Heads:
    """Feeds as Redis holds them; `write_patiently` is what emission asks of the writer.

    A feed of `settled_ms` that is made twice must be made alike. (Live ones see each item and each derived
    record as soon as it comes, so two of one version may differ; the first one stays.)
    """

    failures = losses = 0

    def __init__(self) -> None:
        self.feeds: dict[tuple[str, str], FeedToWrite] = {}
        self.settled_ms = -1

    async def write_patiently(
        self, feeds: Sequence[FeedToWrite], waiting: Callable[..., None]
    ) -> list[Outcome]:
        return [self._write(feed) for feed in feeds]

    def _write(self, feed: FeedToWrite) -> Outcome:
        there = self.feeds.get((feed.user, feed.surface))
        if there is not None and there.version >= feed.version:
            if there.version == feed.version and feed.generated_at_ms == self.settled_ms:
                assert shown(there) == shown(feed), "settled twice, and two feeds"
            return Outcome.ALREADY if there.version == feed.version else Outcome.REFUSED_OLDER
        self.feeds[feed.user, feed.surface] = feed
        return Outcome.WRITTEN


def shown(feed: FeedToWrite) -> tuple[Any, ...]:
    """All bytes of a feed."""
    fields = (feed.user, feed.surface, feed.version, feed.generated_at_ms, feed.stale_after_ms)
    return *fields, feed.policy, feed.model, feed.topics, tuple(feed.entries.chunks())


@dataclass
class Board:
    """Where a settle request stands."""

    request: SettleRequest | None = None
    acknowledged: dict[int, int] = field(default_factory=dict)
    refused: str = ""

    async def acknowledge(self, request: SettleRequest, partition: int, feeds: int) -> None:
        self.acknowledged[partition] = feeds

    async def refuse(self, request: SettleRequest, why: str) -> None:
        self.refused = why


class Decoder:
    """Activities are produced decoded; those that are None are bad."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def records_at_once(self, batch: RecordBatch) -> int:
        """Batches with a bad record come in parts."""
        return 3 if None in batch.values else max(len(batch), 1)

    def decode_batch(self, batch: RecordBatch) -> tuple[ActivityColumns, list[DeadLetter]]:
        values: Sequence[Any] = batch.values
        bad = [
            DeadLetter(batch.topic, batch.partition, int(offset), 0, None, b"", Reason.NOT_JSON, "made up")
            for offset, value in zip(batch.offsets, values, strict=True)
            if value is None
        ]
        return columns([v for v in values if v is not None], self._policy, int(batch.offsets[0])), bad
