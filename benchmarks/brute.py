"""Counts per (user, 5-minute window, verb) the obvious way, to check every contender against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.stream import SPAN_MS, START_MS, VERBS, WINDOW_MS, ActivityStream

WINDOWS = -(-SPAN_MS // WINDOW_MS)


def cells(
    user: NDArray[np.int64], event_ms: NDArray[np.int64], verb: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cell codes in ascending order and their counts, int64 each; one input entry per activity."""
    codes, counts = np.unique(encode(user, event_ms, verb), return_counts=True)
    return codes, counts.astype(np.int64)


def encode(
    user: NDArray[np.int64], event_ms: NDArray[np.int64], verb: NDArray[np.int64]
) -> NDArray[np.int64]:
    """One integer per (user, window, verb)."""
    return (user * WINDOWS + (event_ms - START_MS) // WINDOW_MS) * len(VERBS) + verb


def expected(
    stream: ActivityStream, chosen: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The right cells of a stream, or of the chosen activities of it."""
    picked = slice(None) if chosen is None else chosen
    columns = stream.columns
    return cells(columns["user"][picked], columns["event_ms"][picked], columns["verb"][picked])


def read_dump(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells of a contender's dump: lines `user,window start in ms,verb index,count`, in any order."""
    import pyarrow.csv as csv

    names = ["user", "start_ms", "verb", "count"]
    table = csv.read_csv(path, csv.ReadOptions(column_names=names))
    user, start_ms, verb, count = (table[name].to_numpy().astype(np.int64) for name in names)
    codes = encode(user, start_ms, verb)
    order = np.argsort(codes, kind="stable")
    return codes[order], count[order]


def differences(
    right: tuple[NDArray[np.int64], NDArray[np.int64]], found: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> int:
    """How many cells are missing, extra, twice or have another count."""
    codes = np.concatenate([right[0], found[0]])
    signed = np.concatenate([right[1], -found[1]])
    _, where = np.unique(codes, return_inverse=True)
    off = np.bincount(where, weights=signed) != 0
    doubled = len(found[0]) - len(np.unique(found[0]))
    return int(off.sum()) + doubled
