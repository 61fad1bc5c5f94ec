"""Feeds that a replay kept on disk, read as those in Redis are (11)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.feed_heads import StoredFeed
from streams.store import ShardStore
from topologies.replay.feeds import decode_head, feed_key
from topologies.replay.seed import SEEDED_FILE
from topologies.replay.shadow import Shadow
from wire.names import Namespace


def on_disk(shadow: Shadow) -> bool:
    """Whether the namespace is a replay's that never went on live: then its directory is the truth, else its
    topics are."""
    return shadow.exists and not (shadow.directory / SEEDED_FILE).exists()


class ShadowFeeds:
    """The feeds in a shadow's directory; a `with` block. Nobody else may have it open (OperatorError)."""

    def __init__(self, directory: Path) -> None:
        self._stores = [ShardStore(path) for path in sorted(directory.glob("feeds-*[0-9]"))]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for store in self._stores:
            store.close()

    def users(self, names: Namespace, surface: str) -> Iterator[str]:
        """See streams.feed_heads.FeedHeads; each user comes once."""
        prefix = feed_key(surface, "")
        for store in self._stores:
            for chunk in store.scan(prefix):
                yield from (key[len(prefix) :].decode() for key, _ in chunk)

    def read(self, names: Namespace, surface: str, users: Sequence[str]) -> list[StoredFeed | None]:
        """See streams.feed_heads.FeedHeads."""
        keys = [feed_key(surface, user) for user in users]
        found: dict[bytes, bytes] = {}
        for store in self._stores:
            rows = zip(keys, store.get_many(keys), strict=True)
            found |= {key: value for key, value in rows if value is not None}
        return [
            StoredFeed.of(user, decode_head(found[key])) if key in found else None
            for user, key in zip(users, keys, strict=True)
        ]
