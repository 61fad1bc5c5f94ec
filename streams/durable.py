"""The contract between a shard's state and what makes it durable: bytes and offsets, nothing of ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import orjson

Row = tuple[bytes, bytes | None]
"""A changelog record: key and value; None deletes."""

POSITION_KEY = b"!position"
"""Key of the record that says how far the rows are: an orjson object with at least `position` and `epoch`."""


@dataclass(frozen=True, slots=True)
class Position:
    """`offset`: the next source offset to apply; `epoch`: of the owner that wrote it."""

    offset: int
    epoch: int

    @classmethod
    def decode(cls, value: bytes) -> Position:
        """Read what a shard's state wrote under POSITION_KEY, ignoring what else it keeps there."""
        found = orjson.loads(value)
        return cls(int(found["position"]), int(found["epoch"]))


@dataclass(frozen=True, slots=True)
class Message:
    """One record to produce inside the checkpoint's transaction."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Cut:
    """All that one checkpoint commits: copies, so that ingest goes on while it is in flight.

    `position` is the next source offset to read; `number` grows by one for each cut of this owner.
    `rows` includes the POSITION_KEY record, last. `nothing` cuts are not committed.
    """

    number: int
    position: int
    rows: Sequence[Row]
    messages: Sequence[Message] = field(default=())

    @property
    def nothing(self) -> bool:
        return not self.rows and not self.messages


class ShardState(Protocol):
    """What a topology gives to `streams` for one shard (one partition of one topic and its rows).

    All methods are synchronous and must leave the state consistent: a cut may come at any await of the code
    that applies batches.
    """

    def cut(self, epoch: int) -> Cut:
        """Copy dirty rows, pending messages and the position; mark the rows in flight (pinned)."""

    def committed(self, cut: Cut) -> None:
        """The transaction is committed: rows in flight (unless dirtied again) become flushable."""

    def flush_slice(self, rows_max: int) -> list[Row]:
        """Up to `rows_max` committed rows (their *committed* bytes) that RocksDB does not have yet.

        Rows that were committed when the first slice was asked for come in slices until one is shorter than
        `rows_max`, or holds POSITION_KEY, which comes last; only then newer ones may follow.
        """

    def flushed(self, rows: list[Row]) -> None:
        """These rows are in RocksDB now and may be evicted."""

    def skip_to(self, offset: int) -> None:
        """There is nothing to apply before `offset`: a new shard's log begins there, or only markers came."""

    def restore(self, rows: list[Row]) -> None:
        """Apply changelog rows or rows read back from RocksDB at start, last-wins, in order."""
