"""What the worker measures, as Prometheus metrics in a registry of their own (all steps).

Hot paths call `add`, `stage` or `observe` once per batch or slice, never once per record; children of
labelled metrics are looked up once and kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from streams.dead_letters import DeadLetter

FRESHNESS_BUCKETS_S = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.175, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGE_BUCKETS_S = (0.0001, 0.0003, 0.001, 0.003, 0.005, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
HOLD_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
BATCH_BUCKETS = (1, 10, 100, 300, 1_000, 3_000, 10_000, 30_000)

STAGES = (
    "decode",
    "apply",
    "deltas",
    "rank",
    "emit",
    "checkpoint",
    "flush",
)
"""The values of the label `stage`, in the order of the flow."""
OUTCOMES = ("applied", "duplicate", "late", "undone", "dead")
"""What became of an activity. `late` (beyond the rings) and `undone` are also counted as applied."""


class Metrics:
    """All metrics of one process. Attributes are prometheus-client objects; names end in their unit."""

    def __init__(self, service: str = "feedrank") -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._children: dict[tuple[int, tuple[str, ...]], Counter | Gauge | Histogram] = {}
        self._of_partitions: list[Gauge] = []
        self._ingest()
        self._durability()
        self._ranking()
        self._process(service)

    def _ingest(self) -> None:
        self.lag = self._gauge("lag_records", "Records between position and end", "topic", "partition")
        self.position = self._gauge("position_records", "Next source offset", "topic", "partition")
        self.stream_time = self._gauge("stream_time_seconds", "Newest event time", "topic", "partition")
        self.batch = self._histogram("batch_records", "Records of one fetch", BATCH_BUCKETS)
        self.activities = self._counter("activities", "Activities by what became of them", "outcome")
        self.dead_letters = self._counter("dead_letters", "Records set aside, by reason", "reason")
        self.stages = self._histogram("stage_seconds", "Time per batch or slice", STAGE_BUCKETS_S, "stage")
        self.paused = self._gauge("paused_partitions", "Partitions not fetched for backpressure", "topic")

    def _durability(self) -> None:
        self.rows = self._gauge("rows", "Rows in memory, by table", "topic", "partition", "table")
        self.pending_rows = self._gauge(
            "pending_rows", "Rows that RocksDB lacks, by state", "topic", "partition", "state"
        )
        self.checkpoints = self._counter("checkpoints", "Checkpoints by outcome", "topic", "outcome")
        self.checkpoint_rows = self._counter("checkpoint_rows", "Rows committed to changelogs", "topic")
        self.checkpoint_time = self._gauge(
            "checkpoint_timestamp_seconds", "Wall clock of the last commit", "topic", "partition"
        )
        self.rocksdb_rows = self._counter("rocksdb_rows", "Rows written to RocksDB")
        self.recovered_rows = self._counter("recovered_rows", "Changelog rows replayed", "topic")
        self.standby_shards = self._gauge(
            "standby_shards", "Shards of other workers with a copy here", "topic"
        )
        self.standby_rows = self._counter("standby_rows", "Changelog rows written to copies", "topic")
        self.recovery_left = self._gauge("recovery_remaining_rows", "Changelog rows still to replay", "topic")
        self.recovery_seconds = self._gauge(
            "recovery_seconds", "Length of the last recovery", "topic", "partition"
        )

    def _ranking(self) -> None:
        self.event_to_redis = self._histogram(
            "event_to_redis_seconds",
            "From an activity's record time to its feed in Redis",
            FRESHNESS_BUCKETS_S,
        )
        self.due_users = self._gauge("due_users", "Users waiting to be ranked")
        self.due = self._counter("due", "Marks of users as due, by why", "reason")
        self.due_dropped = self._counter("due_dropped", "Marks that a full due queue dropped", "why")
        self.feeds = self._counter("feeds", "Feeds by surface and outcome", "surface", "outcome")
        self.candidates = self._counter("candidates", "Candidates proposed, by source", "source")
        self.served_items = self._counter("served_items", "Items emitted, by source", "source")
        self.clicks = self._counter("clicks", "Weak and strong acts that name a slate, by source", "source")
        self.dropped_items = self._counter("dropped_items", "Candidates dropped, by rule", "rule")
        self.served_lost = self._counter("served_lost", "Served records that Kafka did not take")
        self.source_failures = self._counter("source_failures", "Sources that failed alone", "source")
        self.items = self._gauge("items", "Live items in the index")
        self.models = self._counter("models", "Models taken over or refused", "outcome")
        self.tick = self._gauge("tick", "Item tick that feeds are ranked at")
        self.redis_up = self._gauge("redis_up", "1 while Redis answers")
        self.redis_errors = self._counter("redis_errors", "Failed round trips to Redis")

    def _process(self, service: str) -> None:
        self.longest_hold_s: dict[str, float] = {}
        self.loop_holds = self._histogram(
            "loop_hold_seconds", "Event-loop callbacks longer than 1 ms", HOLD_BUCKETS_S
        )
        self.loop_hold_max = self._gauge("loop_hold_max_seconds", "Longest hold of the event loop", "by")
        self.loop_held = self._counter("loop_held_seconds", "Time in callbacks longer than 1 ms", "by")
        info = self._gauge("build_info", "Always 1; names the service", "service")
        info.labels(service).set(1)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"feedrank_{name}_total", meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        """One of a partition has `topic` and `partition` as its first labels: `forget` drops it."""
        made = Gauge(f"feedrank_{name}", meaning, labels, registry=self.registry)
        if "partition" in labels:
            assert labels[:2] == ("topic", "partition"), f"{name}: nobody could forget a partition"
            self._of_partitions.append(made)
        return made

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"feedrank_{name}", meaning, labels, buckets=buckets, registry=self.registry)

    def add(self, counter: Counter, amount: float, *labels: object) -> None:
        """Add `amount` to the counter's child with these labels; 0 costs nothing and makes no child."""
        if amount:
            self._child(counter, labels).inc(amount)  # type: ignore[union-attr]

    def add_each(self, counter: Counter, amounts: Mapping[str, float]) -> None:
        """Add to several children of a counter with one label."""
        for label, amount in amounts.items():
            self.add(counter, amount, label)

    def set_aside(self, letters: Iterable[DeadLetter]) -> None:
        """These became dead letters."""
        for letter in letters:
            self.add(self.dead_letters, 1, letter.reason.value)

    def set(self, gauge: Gauge, value: float, *labels: object) -> None:
        """Set the gauge's child with these labels."""
        self._child(gauge, labels).set(value)  # type: ignore[union-attr]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one batch or slice of a stage (one of STAGES)."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent(name, time.perf_counter() - start)

    def spent(self, stage: str, seconds: float) -> None:
        """As `stage`, for code that measures by itself."""
        self._child(self.stages, (stage,)).observe(seconds)  # type: ignore[union-attr]

    def held(self, seconds: float, by: str) -> None:
        """One callback held the loop for `seconds`; `by`: the function it ran (few values)."""
        self.loop_holds.observe(seconds)
        self.add(self.loop_held, seconds, by)
        if seconds > self.longest_hold_s.get(by, 0.0):
            self.longest_hold_s[by] = seconds
            self.set(self.loop_hold_max, seconds, by)

    def forget(self, topic: str, partition: int) -> None:
        """Drop all gauges of a revoked partition, so that nobody reads a lag that nobody works on, and a sum
        over workers has the partition once."""
        place = (topic, str(partition))
        for gauge in self._of_partitions:
            for key in [key for key in self._children if key[0] == id(gauge) and key[1][:2] == place]:
                del self._children[key]
                gauge.remove(*key[1])

    def _child(
        self, metric: Counter | Gauge | Histogram, labels: tuple[object, ...]
    ) -> Counter | Gauge | Histogram:
        key = (id(metric), tuple(map(str, labels)))
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*key[1]) if labels else metric
        return child

    def value(self, name: str, **labels: str) -> float:
        """The value of one sample by its exported name, 0.0 when it does not exist (demo, tests)."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def quantile(buckets: Mapping[float, float], q: float) -> float:
    """The q-quantile (0 < q < 1) of a histogram's cumulative counts by upper bound, in the bound's unit.

    Linear within a bucket, as Prometheus' histogram_quantile; the last finite bound when it lies beyond;
    nan without observations.

    >>> quantile({0.01: 0, 0.02: 10, float("inf"): 10}, 0.5)
    0.015
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if not total:
        return float("nan")
    rank, below, lower = q * total, 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (rank - below) / (buckets[bound] - below)
        below, lower = buckets[bound], bound
    return lower
