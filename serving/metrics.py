"""What the API measures, as Prometheus metrics (read side)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

LATENCY_BUCKETS_S = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class ApiMetrics:
    """One registry per API process; names begin with feedrank_api_."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "feedrank_api_requests_total",
            "Requests by route and status",
            ["route", "status"],
            registry=registry,
        )
        self.latency = Histogram(
            "feedrank_api_request_seconds",
            "Time to answer, by route",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.pages = Counter(
            "feedrank_api_pages_total",
            "Pages by source (feed, topic, global) and reason",
            ["surface", "source", "reason"],
            registry=registry,
        )
        self.restarts = Counter(
            "feedrank_api_restarted_pages_total", "Pages whose version was gone", registry=registry
        )
        self.dropped = Counter(
            "feedrank_api_dropped_items_total",
            "Entries left out of pages, by why",
            ["why"],
            registry=registry,
        )
        self.activities = Counter(
            "feedrank_api_activities_total",
            "Activities taken: posted, or visits",
            ["kind"],
            registry=registry,
        )
        self.unsent = Gauge(
            "feedrank_api_unsent_activities", "Activities that Kafka did not take", registry=registry
        )
        self.redis_up = Gauge("feedrank_api_redis_up", "1 while Redis answers", registry=registry)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
