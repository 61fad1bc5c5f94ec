"""Seen pages (2, 10): the last 512 exposures of each user, in pages of 64 entries.

An exposure is appended and never looked for: a checkpoint then writes only the newest page of a user, and any
cut of a batch gives the same bytes for free. Readers get one entry per item, with how often it was shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.groups import run_sizes, run_starts
from models.merge import Rows
from models.snapshot import Snapshot

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

PAGE = 64
PAGES_MAX = 8
SEEN_MAX = PAGE * PAGES_MAX
PAGE_BYTES = PAGE * 8
SHOWN, WITHDRAWN = 1, 0xFFFF
"""Low 16 bits of a stored entry: +1 or -1 exposures."""


class SeenPages:
    """Seen entries by arena slot, below `slots_max`. How many were ever appended stands in the user row
    (`seen_count`).

    As in the arena, address space for all pages is reserved at once and costs memory only as it is used: a
    pool that grew took 40 ms of the slice that it grew in.
    """

    def __init__(self, slots_max: int) -> None:
        pages_max = slots_max * PAGES_MAX
        self._pool: U64 = np.zeros((pages_max, PAGE), np.uint64)
        self._dirty = np.zeros(pages_max, np.bool_)
        self._waits = np.zeros(pages_max, np.bool_)  # still to be copied for the last cut
        self._snapshot = Snapshot(self._pool, self._waits, np.empty(0, np.int64))
        self._owner = np.zeros(pages_max, np.int64)  # slot * 8 + page number
        self._table = np.zeros((slots_max, PAGES_MAX), np.int32)  # page + 1, 0: none
        self._free: list[int] = []
        self._top = 0

    @property
    def pages(self) -> int:
        """Pages in use, 512 bytes each."""
        return self._top - len(self._free)

    def reserved(self, slots: int) -> list[tuple[NDArray[Any], int]]:
        """See Arena.reserved; `slots`: how many of the arena's are used."""
        return [(self._pool, self._top), (self._owner, self._top), (self._table, slots)]

    def dirty_pages(self) -> int:
        """How many pages the next cut will copy."""
        return int(np.count_nonzero(self._dirty[: self._top]))

    def apply(self, rows: Rows, slot: I64, item_fp: U64, day: I64, undo: Bools) -> None:
        """Append k exposures (and undo of exposures), sorted by slot and in offset order per slot.

        `day`: day number (event time // 86,400,000). Advances `seen_count` of `rows`.
        """
        if not slot.size:
            return
        first = run_starts(slot)
        size = run_sizes(first, slot.size)
        count = rows["seen_count"][slot[first]]
        number = np.arange(slot.size) + np.repeat(count - first, size)
        rows["seen_count"][slot[first]] = count + size
        entry = (item_fp << np.uint64(32)) | ((day << 16) | np.where(undo, WITHDRAWN, SHOWN)).astype(
            np.uint64
        )
        if size.max() > SEEN_MAX:  # a place written twice: leave the order of writing out of it
            last = np.flatnonzero(number >= np.repeat(count + size, size) - SEEN_MAX)
            slot, number, entry = slot[last], number[last], entry[last]
        place = number % SEEN_MAX
        page = self._pages_of(slot, place // PAGE)
        self._snapshot.save(page)
        self._pool.reshape(-1)[page * PAGE + place % PAGE] = entry
        self._dirty[page] = True

    def entries(self, slot: int) -> U64:
        """uint64[k], ascending: `fp32 << 32 | day << 16 | times` per item shown and not withdrawn.

        `day` is the last one, `times` how many of the user's last 512 exposures showed the item.
        """
        raw = np.sort(self.stored(slot))
        if not raw.size:
            return raw
        fp32 = raw >> np.uint64(32)
        starts = run_starts(fp32)
        times = np.add.reduceat(
            (raw & np.uint64(0xFFFF)).astype(np.uint16).view(np.int16).astype(np.int64), starts
        )
        newest = np.maximum.reduceat(raw, starts) & np.uint64(0xFFFFFFFFFFFF0000)
        entries: U64 = (newest | np.maximum(times, 0).astype(np.uint64))[times > 0]
        return entries

    def stored(self, slot: int) -> U64:
        """uint64[k]: the entries as stored, by place."""
        pages = self._table[slot]
        raw = self._pool[pages[pages > 0] - 1].ravel()
        used: U64 = raw[raw != 0]
        return used

    def _pages_of(self, slot: I64, number: I64) -> I64:
        """Page ids, made where there are none yet."""
        at = slot * PAGES_MAX + number
        pages = self._table.reshape(-1)[at]
        absent = np.flatnonzero(pages == 0)
        if absent.size:
            wanted = np.sort(at[absent])
            wanted = wanted[run_starts(wanted)]
            made = self._take(wanted.size)
            self._owner[made] = wanted
            self._table.reshape(-1)[wanted] = made + 1
            pages = self._table.reshape(-1)[at]
        found: I64 = pages.astype(np.int64) - 1
        return found

    def _take(self, count: int) -> I64:
        reused = [self._free.pop() for _ in range(min(count, len(self._free)))]
        fresh = count - len(reused)
        self._top += fresh
        return np.array([*reused, *range(self._top - fresh, self._top)], np.int64)

    def cut(self) -> int:
        """Begin a cut of the dirty pages as they are now, and say how many they are; they are clean now."""
        pages = np.flatnonzero(self._dirty[: self._top])
        self._dirty[pages] = False
        self._snapshot.save_all()
        self._snapshot = Snapshot(self._pool, self._waits, pages)
        return pages.size

    def copies(self) -> Iterator[tuple[I64, I64, list[bytes]]]:
        """Slots int64[k], page numbers int64[k] and 512 bytes each of the last cut's pages, in parts."""
        return self._copies(self._snapshot)

    def _copies(self, snapshot: Snapshot) -> Iterator[tuple[I64, I64, list[bytes]]]:
        for pages, entries in snapshot.parts():
            owner, data = self._owner[pages], entries.view(f"V{PAGE_BYTES}").ravel()
            yield owner // PAGES_MAX, owner % PAGES_MAX, data.tolist()

    def restore(self, slot: I64, number: I64, data: bytes) -> None:
        """Put k pages of 512 bytes each (joined) in place, last-wins.

        Raises ValueError for another size or a page number above 7: state of another version.
        """
        if len(data) != slot.size * PAGE_BYTES or (number.size and number.max() >= PAGES_MAX):
            raise ValueError(
                f"{slot.size} seen pages in {len(data)} bytes are of another version: replay instead"
            )
        if slot.size:
            pages = self._pages_of(slot, number)
            self._snapshot.save(pages)
            self._pool[pages] = np.frombuffer(data, "<u8").reshape(-1, PAGE)

    def release(self, slots: I64) -> None:
        """These users are evicted (nothing of them is dirty): their pages serve others."""
        pages = self._table[slots]
        pages = pages[pages > 0] - 1
        self._pool[pages], self._dirty[pages] = 0, False
        self._table[slots] = 0
        self._free.extend(pages.tolist())
