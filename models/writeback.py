"""From cut to RocksDB (2, 4): the committed bytes of rows until they are flushed, last-wins.

Memory: a row is held at most three times (in flight, gathering, flushing), and only rows written within one
flush period, all of them pinned in the arena: `rows_max` x row size is the bound, `pending` the figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

Row = tuple[bytes, bytes | None]

POSITION_KEY = b"!position"


class WriteBack:
    """Rows of cuts, from `cut` over `committed` to `flush_slice` and `flushed`; last-wins per key.

    `flushed_through`: all rows of cuts up to this number are in RocksDB; give it to the arena.
    """

    def __init__(self) -> None:
        self._flight: dict[int, dict[bytes, bytes | None]] = {}
        self._gathering: dict[bytes, bytes | None] = {}
        self._flushing: dict[bytes, bytes | None] = {}
        self._gathered_through = self._flushing_through = 0
        self.flushed_through = 0

    @property
    def pending(self) -> int:
        """Rows committed and not yet flushed."""
        return len(self._gathering) + len(self._flushing)

    def cut(self, number: int, rows: Iterable[Row]) -> None:
        """Rows of cut `number` (they grow by one) are in flight, beside those of it that already are."""
        self._flight.setdefault(number, {}).update(rows)

    def through(self, number: int, parts: Iterable[Sequence[Row]], last: Row) -> Iterator[Sequence[Row]]:
        """The same rows and then `last`, each part in flight from when it is asked for."""
        for part in chain(parts, [[last]]):
            self.cut(number, part)
            yield part

    def committed(self, number: int) -> None:
        """Cut `number` and those before it are committed: their rows may be flushed."""
        for known in sorted(n for n in self._flight if n <= number):
            self._gathering.update(self._flight.pop(known))
        self._gathered_through = number

    def restored(self, rows: Iterable[Row]) -> None:
        """Rows of the changelog that RocksDB may not have: flush them like committed ones."""
        self._gathering.update(rows)

    def flush_slice(self, rows_max: int) -> list[Row]:
        """Up to `rows_max` rows to write now; the position comes after all other rows of its generation."""
        if not self._flushing:
            self._flushing, self._gathering = self._gathering, {}
            self._flushing_through = self._gathered_through
            if POSITION_KEY in self._flushing:
                self._flushing[POSITION_KEY] = self._flushing.pop(POSITION_KEY)
        return [row for row, _ in zip(self._flushing.items(), range(rows_max), strict=False)]

    def flushed(self, rows: Iterable[Row]) -> None:
        """These rows of the last slice are in RocksDB."""
        done = [key for key, _ in rows]
        if len(done) == len(self._flushing):
            self._flushing = {}
        for key in done if self._flushing else ():
            self._flushing.pop(key, None)
        if not self._flushing:
            self.flushed_through = max(self.flushed_through, self._flushing_through)

    def rows(self, tag: bytes) -> Iterator[Row]:
        """Rows committed and not yet flushed whose key starts with `tag`, the newest of each."""
        merged = {**self._flushing, **self._gathering}
        return ((key, value) for key, value in merged.items() if key.startswith(tag))

    def find(self, key: bytes) -> bytes | None:
        """Committed bytes that RocksDB does not have yet, if any."""
        return self._gathering.get(key) or self._flushing.get(key)


class WrittenAtOnce(WriteBack):
    """Of whoever has all rows of a cut in RocksDB before it counts as committed: holds none of them."""

    def cut(self, number: int, rows: Iterable[Row]) -> None:
        """They are written by who asked for the cut."""

    def committed(self, number: int) -> None:
        """They are written."""
        self.flushed_through = number

    def restored(self, rows: Iterable[Row]) -> None:
        """RocksDB is where they are from."""
