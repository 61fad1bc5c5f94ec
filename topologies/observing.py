"""What shards tell of themselves, as metrics and as progress for the watchdog (2, 4)."""

from __future__ import annotations

import time

from streams.health import Health
from streams.log import logger
from streams.loop_watch import Progress
from streams.metrics import Metrics
from streams.observe import REVOKED, Observer, Outcome

EVERY = -1
ASSIGNMENT = "assignment"

log = logger(__name__)


class WorkerObserver(Observer):
    """Writes metrics, progress and readiness of one worker."""

    def __init__(self, metrics: Metrics, progress: Progress, health: Health) -> None:
        self._metrics, self._progress, self._health = metrics, progress, health
        self._unassigned()

    def _unassigned(self) -> None:
        """Until the shards of the next assignment are recovered: a topic that is gone may end the group's."""
        why = "the group has not said yet which partitions are this worker's"
        self._health.not_ready(ASSIGNMENT, why)

    def checkpointed(
        self, topic: str, partition: int, rows: int, size_bytes: int, seconds: float, outcome: Outcome
    ) -> None:
        metrics = self._metrics
        metrics.add(metrics.checkpoints, 1, topic, outcome)
        metrics.spent("checkpoint", seconds)
        if outcome == "committed":
            metrics.add(metrics.checkpoint_rows, rows, topic)
            metrics.set(metrics.checkpoint_time, time.time(), topic, partition)
        self._progress.moved(topic, partition, 0, f"checkpoint {outcome}")

    def flushed(self, topic: str, partition: int, rows: int, seconds: float) -> None:
        self._metrics.rocksdb_rows.inc(rows)
        self._metrics.spent("flush", seconds)

    def recovering(self, topic: str, rows: int, left: int, seconds_left: float | None) -> None:
        self._metrics.set(self._metrics.recovery_left, left, topic)
        self._progress.moved(topic, EVERY, rows, "recovering")
        eta = "unknown" if seconds_left is None else f"{seconds_left:.0f} s"
        self._health.not_ready(f"recovery of {topic}", f"{left} rows to go, about {eta}")

    def recovered(self, topic: str, partition: int, rows: int, seconds: float) -> None:
        metrics = self._metrics
        metrics.set(metrics.recovery_left, 0, topic)
        metrics.set(metrics.recovery_seconds, seconds, topic, partition)
        metrics.add(metrics.recovered_rows, rows, topic)
        self._health.ready(f"recovery of {topic}")
        log.info("shard ready", topic=topic, partition=partition, rows=rows, seconds=round(seconds, 3))

    def stood_by(self, topic: str, copies: int, rows: int) -> None:
        self._metrics.set(self._metrics.standby_shards, copies, topic)
        self._metrics.add(self._metrics.standby_rows, rows, topic)

    def assigned(self, shards: int) -> None:
        self._health.ready(ASSIGNMENT)
        log.info("assigned", shards=shards)

    def fetched(self, topic: str, partition: int, position: int, highwater: int) -> None:
        metrics = self._metrics
        metrics.set(metrics.lag, max(0, highwater - position), topic, partition)
        metrics.set(metrics.position, position, topic, partition)
        self._progress.lag(topic, partition, max(0, highwater - position))

    def lost(self, topic: str, partition: int, why: str) -> None:
        self._metrics.forget(topic, partition)
        self._progress.forget(partition)
        if why == REVOKED:
            self._unassigned()
        log.info("shard given up", topic=topic, partition=partition, why=why)

    def paused(self, topic: str, partition: int, on: bool) -> None:
        self._metrics.paused.labels(topic).inc(1 if on else -1)
