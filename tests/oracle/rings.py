"""Rings of buckets (docs/state.md): what was counted, by bucket of event time, as far as it is still held."""

from __future__ import annotations

from tests.oracle.numbers import DAY_MS, EPOCH_MS, HOUR_MS, LONG_WEIGHT

COLUMNS = 5
BUCKET_MS = 300_000


class Ring:
    """`cells[bucket]` are the counts by column of the `kept` newest buckets."""

    def __init__(self, length_ms: int, kept: int) -> None:
        self.length_ms, self.kept = length_ms, kept
        self.cells: dict[int, list[int]] = {}

    def move(self, newest_ms: int) -> None:
        """Forget what is no longer held."""
        last = newest_ms // self.length_ms - self.kept
        for bucket in [b for b in self.cells if b <= last]:
            del self.cells[bucket]

    def add(self, at_ms: int, column: int, count: int, newest_ms: int) -> None:
        bucket = at_ms // self.length_ms
        if bucket > newest_ms // self.length_ms - self.kept:
            self.cells.setdefault(bucket, [0] * COLUMNS)[column] += count

    def window(self, as_of_ms: int) -> list[int]:
        """Counts by column of the `kept` buckets up to the one of `as_of_ms`."""
        now = as_of_ms // self.length_ms
        inside = [counts for bucket, counts in self.cells.items() if now - self.kept < bucket <= now]
        return [sum(counts[column] for counts in inside) for column in range(COLUMNS)]

    def places(self, columns: int) -> list[int]:
        """The cells as a row stores them: place after place, `columns` of each."""
        flat = [0] * (self.kept * columns)
        for bucket, counts in self.cells.items():
            start = bucket % self.kept * columns
            flat[start : start + columns] = counts[:columns]
        return flat


class Rings:
    """The four rings of a user or an item, and the newest time that they are judged by."""

    def __init__(self) -> None:
        self.newest_ms = 0
        self.m5, self.h1 = Ring(BUCKET_MS, 12), Ring(HOUR_MS, 24)
        self.d1, self.long = Ring(DAY_MS, 7), Ring(EPOCH_MS, 2)

    def move(self, at_ms: int) -> None:
        self.newest_ms = max(self.newest_ms, at_ms)
        for ring in (self.m5, self.h1, self.d1, self.long):
            ring.move(self.newest_ms)

    def count(self, at_ms: int, column: int, count: int) -> None:
        for ring in (self.m5, self.h1, self.d1):
            ring.add(at_ms, column, count, self.newest_ms)
        start_ms = at_ms // BUCKET_MS * BUCKET_MS
        weight = LONG_WEIGHT[start_ms % EPOCH_MS // HOUR_MS]
        self.long.add(start_ms, column, count * weight, self.newest_ms)
