"""What the worker says of itself under /metrics, added up over its restarts."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families

from streams.metrics import quantile

K = TypeVar("K")
TIMEOUT_S = 1.0
WINDOW_S = 10.0
BUCKET = "feedrank_event_to_redis_seconds_bucket"
COUNTERS = {
    ("feedrank_activities_total", "outcome", "applied"): "applied",
    ("feedrank_activities_total", "outcome", "duplicate"): "duplicates",
    ("feedrank_activities_total", "outcome", "undone"): "undone",
    ("feedrank_activities_total", "outcome", "dead"): "dead",
    ("feedrank_feeds_total", "outcome", "written"): "feeds",
}
GAUGES = {
    "feedrank_due_users": "due",
    "feedrank_items": "items",
    "feedrank_tick": "tick",
    "feedrank_loop_hold_max_seconds": "loop_hold_max_s",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One look. `counters` only grow while the worker lives; `latency` counts by upper bound in s;
    `positions` by partition of activities."""

    counters: Mapping[str, float] = field(default_factory=dict)
    latency: Mapping[float, float] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)
    positions: Mapping[int, int] = field(default_factory=dict)


def parse(text: str, topic: str) -> Reading:
    """From Prometheus' text format; `topic` is the one whose positions count."""
    counters: dict[str, float] = {}
    latency: dict[float, float] = {}
    gauges: dict[str, float] = {}
    positions: dict[int, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if sample.name == BUCKET:
                latency[float(labels["le"])] = sample.value
            elif sample.name in GAUGES:
                name = GAUGES[sample.name]
                gauges[name] = max(sample.value, gauges.get(name, 0.0))
            elif sample.name == "feedrank_position_records" and labels["topic"] == topic:
                positions[int(labels["partition"])] = int(sample.value)
            else:
                for label, value in labels.items():
                    counted = COUNTERS.get((sample.name, label, value))
                    if counted:
                        counters[counted] = counters.get(counted, 0.0) + sample.value
    return Reading(counters, latency, gauges, positions)


def fetch(url: str, timeout_s: float = TIMEOUT_S) -> tuple[int, str]:
    """(status, body) of a GET; (0, why) when nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def added(a: Mapping[K, float], b: Mapping[K, float]) -> dict[K, float]:
    """Key by key."""
    return {key: a.get(key, 0.0) + b.get(key, 0.0) for key in {**a, **b}}


@dataclass(slots=True)
class WorkerNumbers:
    """The worker's numbers over its lives; rates and quantiles over the last seconds."""

    window_s: float = WINDOW_S
    last: Reading = field(default_factory=Reading)
    _before: Reading = field(default_factory=Reading)
    _baseline: dict[float, float] = field(default_factory=dict)
    _seen: deque[tuple[float, dict[str, float], dict[float, float]]] = field(default_factory=deque)

    def take(self, reading: Reading, now_s: float) -> None:
        """A new look at the living worker."""
        self.last = reading
        self._seen.append((now_s, self.counters, self.latency))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - self.window_s:
            self._seen.popleft()

    def restarted(self) -> None:
        """The worker counts from 0 again; what it counted since the last look is gone."""
        self._before = Reading(self.counters, added(self._before.latency, self.last.latency))
        self.last = Reading(gauges=self.last.gauges)

    def begin(self) -> None:
        """Latencies count from now on: what was worked off before the start waited for the worker."""
        self._baseline = added(self._before.latency, self.last.latency)
        self._seen.clear()

    @property
    def counters(self) -> dict[str, float]:
        """Totals over all lives."""
        return added(self._before.counters, self.last.counters)

    @property
    def latency(self) -> dict[float, float]:
        """Event-to-Redis counts by bound since `begin`."""
        total = added(self._before.latency, self.last.latency)
        return {bound: count - self._baseline.get(bound, 0.0) for bound, count in total.items()}

    def per_s(self, name: str) -> float:
        """How fast a counter grows over the window."""
        if len(self._seen) < 2:
            return 0.0
        (from_s, before, _), (to_s, after, _) = self._seen[0], self._seen[-1]
        return max(0.0, after.get(name, 0.0) - before.get(name, 0.0)) / max(to_s - from_s, 1e-9)

    def recent_quantile(self, q: float) -> float:
        """Event to Redis over the window, in s; nan without events."""
        if len(self._seen) < 2:
            return float("nan")
        before, after = self._seen[0][2], self._seen[-1][2]
        return quantile({b: max(0.0, after[b] - before.get(b, 0.0)) for b in after}, q)

    def quantile(self, q: float) -> float:
        """Event to Redis since `begin`, in s; nan without events."""
        return quantile(self.latency, q)
