"""Feeds as they lie in Redis, read without leaving a mark: for who compares or inspects them (after 11).

with FeedHeads(settings.redis) as heads:
    users = set(heads.users(names, "for_you"))
    feeds = heads.read(names, "for_you", ["ann", "bob"])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile

import orjson

from streams.redis_block import RedisBlock
from wire.chunks import Entry, chunk_field, decode_chunk
from wire.names import Namespace

SCAN_COUNT = 5_000
HEADS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class StoredFeed:
    """One feed as it is stored; `as_of_ms`: when it was ranked for. `ids`, `scores`, `titles` of its entries,
    best first; whole entries are decoded when they are asked for: a comparison needs them of few users."""

    user: str
    version: str
    as_of_ms: int
    policy: str
    model: str
    ids: tuple[str, ...]
    scores: tuple[float, ...]
    titles: tuple[str | None, ...]
    chunks: tuple[bytes, ...]

    @property
    def entries(self) -> list[Entry]:
        """Decoded anew each time."""
        return [entry for chunk in self.chunks for entry in decode_chunk(chunk)]

    @classmethod
    def of(cls, user: str, head: Mapping[bytes, bytes]) -> StoredFeed:
        """From a head's fields. Raises ValueError for what is no head."""
        names = takewhile(head.__contains__, (chunk_field(chunk).encode() for chunk in count()))
        chunks = tuple(head[name] for name in names)
        try:
            version, policy, model = (head[name].decode() for name in (b"version", b"policy", b"model"))
            rows = [row for chunk in chunks for row in orjson.loads(chunk)]
            return cls(
                user,
                version,
                int(head[b"generated_at"]),
                policy,
                model,
                tuple([row["id"] for row in rows]),
                tuple([row["score"] for row in rows]),
                tuple([row.get("title") for row in rows]),
                chunks,
            )
        except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
            raise ValueError(
                f"what is stored for {user} is no feed ({type(error).__name__}: {error})"
            ) from error


class FeedHeads(RedisBlock):
    """Reads heads of any namespace; a `with` block. Raises OperatorError where Redis does not answer."""

    def users(self, names: Namespace, surface: str) -> Iterator[str]:
        """Everyone who has a feed. Walks all keys of Redis; a user may come twice."""
        prefix = names.feed(surface, "").removesuffix("}").encode()
        for key in self._redis.scan_iter(match=prefix + b"*}", count=SCAN_COUNT):
            if key.startswith(prefix) and key.endswith(b"}"):
                yield key[len(prefix) : -1].decode()

    def read(self, names: Namespace, surface: str, users: Sequence[str]) -> list[StoredFeed | None]:
        """The feeds of these users; None where there is none."""
        found: list[StoredFeed | None] = []
        for start in range(0, len(users), HEADS_AT_ONCE):
            part = users[start : start + HEADS_AT_ONCE]
            pipe = self._redis.pipeline(transaction=False)
            for user in part:
                pipe.hgetall(names.feed(surface, user))
            found += [
                StoredFeed.of(user, head) if head else None
                for user, head in zip(part, pipe.execute(), strict=True)
            ]
        return found
