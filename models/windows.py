"""Rows for people (2, 4): rings as series in the order of time, long decays as counts, fields in words.

Pure reading at a time, as docs/state.md has it: windows are masked, nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.rings import Ring
from models.tables import EPOCH_MS, HOUR_MS, LONG_HALF_LIFE_H, LONG_WEIGHT_BITS

I64 = NDArray[np.int64]
Rows = NDArray[np.void]

BARS = "▁▂▃▄▅▆▇█"
WITHDRAWN = "▔"


@dataclass(frozen=True, slots=True)
class Window:
    """One ring of one row read at a time: `counts` int64[kept, columns], oldest bucket first; `begins_ms`: of
    the oldest bucket. `whole`: the ring still holds all of them; it forgets as its newest time moves on."""

    name: str
    length_ms: int
    begins_ms: int
    counts: I64
    whole: bool

    @property
    def sums(self) -> list[int]:
        """Per column; negative sums read as 0."""
        return [max(int(one), 0) for one in self.counts.sum(axis=0)]


def window(ring: Ring, row: Rows, as_of_ms: int) -> Window:
    """Of ROW[1] as of a time."""
    now = as_of_ms // ring.length_ms
    newest = row["newest_ms"] // ring.length_ms
    masked = ring.masked(row, newest, np.array([now]), ring.kept)[0].astype(np.int64)
    buckets = np.arange(now - ring.kept + 1, now + 1)
    whole = bool(buckets[0] > newest[0] - ring.kept)
    counts = masked[buckets % ring.kept]
    return Window(ring.name, ring.length_ms, int(buckets[0]) * ring.length_ms, counts, whole)


def long_counts(row: Rows, as_of_ms: int) -> list[float]:
    """float per column: decayed counts (half-life 30 days) at a time, of ROW[1]; 1.0 = one just now.

    The two epochs' sums are weighted up to the start of the newest one, and down by what has passed since.
    """
    epoch = int(row["newest_ms"][0]) // EPOCH_MS
    sums = row["long"][0, epoch % 2] + (row["long"][0, (epoch + 1) % 2] >> 8)
    hours = (as_of_ms - epoch * EPOCH_MS) / HOUR_MS
    scale = 2.0 ** (-hours / LONG_HALF_LIFE_H) / (1 << LONG_WEIGHT_BITS)
    return [max(float(one) * scale, 0.0) for one in sums]


def bars(counts: I64) -> str:
    """A small plot, one character per bucket: blank for 0, a mark at the top for a negative count.

    >>> bars(np.array([0, 1, 2, 8, -1]))
    ' ▁▂█▔'
    """
    most = max(int(counts.max(initial=0)), 1)
    return "".join(
        " " if one == 0 else WITHDRAWN if one < 0 else BARS[-(-one * len(BARS) // most) - 1]
        for one in counts.tolist()
    )
