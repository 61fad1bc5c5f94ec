"""What shards tell those who measure (2, 4): one method per event, all of them cheap and synchronous."""

from __future__ import annotations

from typing import Literal

Outcome = Literal["committed", "fenced", "unknown"]
REVOKED = "revoked"


class Observer:
    """Does nothing; a worker's subclass writes metrics. Called on the loop, once per checkpoint or slice."""

    def checkpointed(
        self, topic: str, partition: int, rows: int, size_bytes: int, seconds: float, outcome: Outcome
    ) -> None:
        """A checkpoint of the shard of source `topic` ended; `seconds` from cut to the broker's answer."""

    def flushed(self, topic: str, partition: int, rows: int, seconds: float) -> None:
        """One slice is in RocksDB; the loop was held for `seconds`."""

    def recovering(self, topic: str, rows: int, left: int, seconds_left: float | None) -> None:
        """Of the changelogs of all shards that open now `rows` were replayed, about `left` are to come."""

    def recovered(self, topic: str, partition: int, rows: int, seconds: float) -> None:
        """The shard is ready after `rows` replayed."""

    def stood_by(self, topic: str, copies: int, rows: int) -> None:
        """So many shards of source `topic` have a copy here; the last look at changelogs found `rows`."""

    def assigned(self, shards: int) -> None:
        """The group has said which shards are this worker's, and all of them are recovered."""

    def fetched(self, topic: str, partition: int, position: int, highwater: int) -> None:
        """The broker answered: records of the log end at `highwater`."""

    def lost(self, topic: str, partition: int, why: str) -> None:
        """The shard was given up: REVOKED (an assignment follows), or how its last checkpoint ended."""

    def paused(self, topic: str, partition: int, on: bool) -> None:
        """The partition is not fetched while its shard works off what it has, or is fetched again."""
