"""A feed as it lies in Redis: which fields to ask for, and what the answer means (read side, no I/O)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from wire.chunks import CHUNK_ENTRIES, CHUNKS_MAX, Entry, chunk_field, decode_chunk

META = ("version", "generated_at", "stale_after", "policy", "model", "count", "topics")

Reply = Any
"""One reply of Redis: bytes, int, list, None, or str from a client that decodes."""


def text(reply: Reply) -> str:
    """A reply as text, whether the client decodes or not."""
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)


@dataclass(frozen=True, slots=True)
class Window:
    """Which chunks to read: [first, stop)."""

    first: int
    stop: int

    @classmethod
    def of(cls, offset: int, limit: int) -> Window:
        """The chunks with `limit` entries from `offset`, and one more for what filters take away."""
        first = min(offset // CHUNK_ENTRIES, CHUNKS_MAX)
        return cls(first, min((offset + limit - 1) // CHUNK_ENTRIES + 2, CHUNKS_MAX))

    def command(self, key: str) -> tuple[str, ...]:
        """HMGET of the head's fields and these chunks; its reply goes to `parse`."""
        return ("HMGET", key, *META, *map(chunk_field, range(self.first, self.stop)))


@dataclass(frozen=True, slots=True)
class Stored:
    """A head, a snapshot or a fallback, with the chunks of one window. `entries[i]` has rank `start + i`."""

    version: str
    generated_at: int
    stale_after: int
    policy: str
    model: str
    count: int
    topics: tuple[str, ...]
    start: int
    entries: tuple[Entry, ...]

    @property
    def stop(self) -> int:
        """The first rank that was not read."""
        return self.start + len(self.entries)


def parse(reply: Sequence[Reply], window: Window) -> Stored | None:
    """What `window.command` brought back; None: there is no feed under that key.

    Raises ValueError when what is there is not a feed.
    """
    meta, chunks = reply[: len(META)], reply[len(META) :]
    if meta[0] is None:
        return None
    entries: list[Entry] = []
    for chunk in chunks:
        if chunk is None:
            break
        entries += decode_chunk(chunk)
    topics = orjson.loads(meta[6]) if meta[6] else []
    return Stored(
        text(meta[0]),
        int(meta[1] or 0),
        int(meta[2] or 0),
        text(meta[3] or ""),
        text(meta[4] or ""),
        int(meta[5] or 0),
        tuple(map(str, topics)),
        window.first * CHUNK_ENTRIES,
        tuple(entries),
    )


def of_version(version: str, window: Window, replies: list[Reply]) -> Stored | None:
    """The one of these feeds that has `version` ("": any); a damaged one counts as none."""
    for reply in replies:
        try:
            stored = parse(reply, window)
        except ValueError:
            continue
        if stored and version in ("", stored.version):
            return stored
    return None
