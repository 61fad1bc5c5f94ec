"""Rings of event-time buckets (2, 4): `b = t // length`, slot `b % kept`, expired by event time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.layout import opaque

I64 = NDArray[np.int64]
Rows = NDArray[np.void]


class Ring:
    """One ring field [kept][columns] of a row dtype, addressed in flat views of the arena.

    `length_ms`: a bucket's length; `kept`: number of buckets; `columns`: counts per bucket.
    """

    def __init__(self, dtype: np.dtype[np.void], name: str, length_ms: int) -> None:
        fields: Any = dtype.fields
        subtype, offset = fields[name][:2]
        cell, (self.kept, self.columns) = subtype.subdtype
        self.name, self.length_ms, self.cell = name, length_ms, cell
        self.stride, self.offset = dtype.itemsize // cell.itemsize, offset // cell.itemsize
        assert dtype.itemsize % cell.itemsize == 0 == offset % cell.itemsize, "fields lie on their own grid"
        self._whole, self._buckets = opaque(dtype, name), opaque(dtype, name, self.kept)
        self._nothing, self._no_bucket = (
            np.zeros(1, f"V{subtype.itemsize // parts}")[0] for parts in (1, self.kept)
        )
        residue, steps, slot = np.ogrid[: self.kept, : self.kept + 1, : self.kept]
        self._cleared = ((slot - residue - 1) % self.kept) < steps

    def flat(self, rows: Rows) -> NDArray[Any]:
        """All cells of this type in all rows (C-contiguous), writable."""
        return rows.view(self.cell)

    def clear(self, rows: Rows, slots: I64, before: I64, after: I64) -> None:
        """Zero the buckets that rows `slots` (unique) enter when their newest bucket goes before -> after."""
        moved = np.flatnonzero(after > before)
        if not moved.size:
            return
        slots, before, steps = slots[moved], before[moved], after[moved] - before[moved]
        whole = steps >= self.kept
        rows.view(self._whole)[self.name][slots[whole]] = self._nothing
        partly = np.flatnonzero(~whole)
        place = np.flatnonzero(self._cleared[before[partly] % self.kept, steps[partly]])
        owner = place // self.kept
        buckets = rows.view(self._buckets)[self.name]
        buckets[slots[partly[owner]], place - owner * self.kept] = self._no_bucket

    def masked(self, rows: Rows, newest: I64, now: I64, window: int) -> NDArray[Any]:
        """Copies [m, kept, columns] of `rows[m]` with only the buckets in (now - window, now] left.

        `newest`, `now`: bucket numbers of the rows' own newest and of the time of reading.
        """
        slot = np.arange(self.kept)
        held = newest[:, None] - (newest[:, None] - slot) % self.kept
        inside = (held > now[:, None] - window) & (held <= now[:, None])
        return np.where(inside[:, :, None], rows[self.name], 0)


def advance(rings: Iterable[Ring], rows: Rows, slots: I64, before_ms: I64, after_ms: I64) -> None:
    """Move the newest time of rows `slots` (unique) forward in all `rings`, emptying what expired."""
    for ring in rings:
        ring.clear(rows, slots, before_ms // ring.length_ms, after_ms // ring.length_ms)


def add(ring: Ring, rows: Rows, slots: I64, buckets: I64, columns: I64, values: I64) -> None:
    """Add `values` to (slot, bucket, column) cells; cells may repeat. Sums wrap at the cell's width."""
    index = slots * ring.stride + ring.offset + (buckets % ring.kept) * ring.columns + columns
    np.add.at(ring.flat(rows), index, values.astype(ring.cell))
