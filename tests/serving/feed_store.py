"""Feeds for tests: written through the real fence into a real Redis, and read back with plain commands."""

from __future__ import annotations

from collections.abc import Sequence

from redis import Redis

from wire.chunks import Entries, Entry
from wire.names import ROUTE_KEY, Namespace
from wire.route import Route
from wire.scripts import FENCE, ROUTE, Script
from wire.version import Version

TTL_S = 600
FOR_YOU = "for_you"


def version(number: int, generation: int = 1) -> str:
    return str(Version(generation, number, 0, 0))


def entry(item: str, author: str = "ann", topics: Sequence[str] = ()) -> Entry:
    return Entry(
        item, author, 1_000, 0.5, "in_network", (f"you follow {author}",), None, f"On {item}", tuple(topics)
    )


class FeedStore:
    """One namespace of one Redis."""

    def __init__(self, url: str, namespace: str) -> None:
        self.redis: Redis = Redis.from_url(url)
        self.names = Namespace(namespace)

    def call(self, script: Script, keys: Sequence[str], *arguments: object) -> list[object]:
        reply: list[object] = self.redis.eval(script.text, len(keys), *keys, *arguments)  # type: ignore[assignment, arg-type]
        return reply

    def write(
        self,
        user: str,
        number: int,
        entries: Sequence[Entry],
        now_ms: int,
        *,
        topics: str = "",
        generation: int = 1,
    ) -> int:
        """1 written, 0 already there, -1 refused."""
        keys = [self.names.feed(FOR_YOU, user), self.names.pin(FOR_YOU, user)]
        extra = ["topics", topics] if topics else []
        return self._fence(keys, version(number, generation), entries, now_ms, extra)

    def write_fallback(self, number: int, items: Sequence[str], now_ms: int, topic: str | None = None) -> int:
        keys = [self.names.fallback(FOR_YOU, topic)]
        return self._fence(keys, version(number), [entry(i) for i in items], now_ms, [])

    def _fence(
        self, keys: list[str], text: str, entries: Sequence[Entry], now_ms: int, extra: list[str]
    ) -> int:
        fields: list[object] = ["generated_at", now_ms, "stale_after", now_ms + 60_000]
        fields += ["policy", "p1", "model", "m1", "count", len(entries), *extra]
        for i, chunk in enumerate(Entries.of(entries).chunks()):
            fields += [f"p{i}", chunk]
        code = self.call(FENCE, keys, text, TTL_S, *fields)[0]
        assert isinstance(code, int)
        return code

    def set_route(self, route: Route) -> None:
        self.call(ROUTE, [ROUTE_KEY], route.version, route.generation, route.encode())
