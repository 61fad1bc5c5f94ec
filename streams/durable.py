"""The contract between a shard's state and what makes it durable: bytes and offsets, nothing of ranking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol, TypeVar, overload

import orjson

T = TypeVar("T")

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


class Later(Sequence[T]):
    """`count` things that are made some at a time (`parts`); whoever asks for one of them has all made.

    >>> row = Later(3, iter(["ab", "c"]))
    >>> next(row.parts()), row[2], list(row.parts()), len(row)
    ('ab', 'c', ['ab', 'c'], 3)
    """

    def __init__(self, count: int, parts: Iterable[Sequence[T]]) -> None:
        self._count, self._coming = count, iter(parts)
        self._made: list[Sequence[T]] = []
        self._all: list[T] | None = None

    def parts(self) -> Iterator[Sequence[T]]:
        """All of them in their order, in parts; what is not made yet is made as it is asked for."""
        number = 0
        while number < len(self._made) or self._more():
            yield self._made[number]
            number += 1

    def _more(self) -> bool:
        part = next(self._coming, None)
        if part is not None:
            self._made.append(part)
        return part is not None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> T: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...

    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        if self._all is None:
            self._all = [one for part in self.parts() for one in part]
        return self._all[at]

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self.parts())


def parts(of: Sequence[T]) -> Iterator[Sequence[T]]:
    """What is made later in its parts, anything else whole."""
    return of.parts() if isinstance(of, Later) else iter([of])


@dataclass(frozen=True, slots=True)
class Cut:
    """All that one checkpoint commits, as it is at the moment of the cut, while ingest goes on.

    `position` is the next source offset to read; `number` grows by one for each cut of this owner.
    `rows` includes the POSITION_KEY record, last. `nothing` cuts are not committed. Rows and messages may be
    made `Later`, in parts of a few milliseconds; all of them are made before `committed`.
    """

    number: int
    position: int
    rows: Sequence[Row]
    messages: Sequence[Message] = field(default=())

    @property
    def nothing(self) -> bool:
        return not self.rows and not self.messages

    def make_all(self) -> None:
        """Make what nobody has asked for yet."""
        for _ in chain(parts(self.rows), parts(self.messages)):
            pass


class ShardState(Protocol):
    """What a topology gives to `streams` for one shard (one partition of one topic and its rows).

    All methods are synchronous and must leave the state consistent: a cut may come at any await of the code
    that applies batches.
    """

    def cut(self, epoch: int) -> Cut:
        """Dirty rows, pending messages and the position as they are now; the rows are in flight (pinned).

        What an earlier cut still has to make stays as it was at that cut.
        """

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
