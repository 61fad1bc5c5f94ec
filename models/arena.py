"""Arena (2, 4): fixed-size rows in one array, addressed by key; marks for checkpoints, flushes and eviction.

`lookup` turns keys into slots, everything else works on arrays of slots. A slot is *pinned* while its row is
dirty or its committed bytes are not yet in RocksDB; only unpinned slots are evicted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.key_slots import KeySlots
from models.snapshot import COPY_ROWS, Snapshot

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


class ArenaFull(Exception):  # noqa: N818
    """All rows are pinned: pause the partition, checkpoint and flush, then go on."""


class Arena:
    """Rows of `dtype` by key (1 to 128 bytes), at most `rows_max` of them in memory.

    `tag` is put before the key in the changelog and in RocksDB. By slot: `rows`, `fp` (fp64 of the key) and
    `ids`. Address space for all `rows_max` rows is reserved at once and costs memory only as slots are first
    used, so nothing is copied when the arena grows and views of `rows` stay valid.
    """

    def __init__(self, dtype: np.dtype[np.void], tag: bytes, rows_max: int) -> None:
        if rows_max < 1:
            raise ValueError(f"rows_max is {rows_max}; an arena needs at least one row")
        self.tag, self.rows_max = tag, rows_max
        self.rows: NDArray[np.void] = np.zeros(rows_max, dtype)
        self._whole = self.rows.view(f"V{dtype.itemsize}")  # rows copy 3 times faster as opaque bytes
        self.fp: U64 = np.zeros(rows_max, np.uint64)
        self.flushed_through = 0  # all cuts up to this one are in RocksDB
        self._dirty = np.zeros(rows_max, np.bool_)
        self._waits = np.zeros(rows_max, np.bool_)  # still to be copied for the last cut
        self._snapshot = Snapshot(self._whole, self._waits, np.empty(0, np.int64))
        self._held = np.zeros(rows_max, np.int64)  # the last cut that copied this slot
        self._used = np.zeros(rows_max, np.bool_)  # since the last eviction
        self._keys = KeySlots(rows_max)
        self._free: list[int] = []
        self._hand = 0

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def ids(self) -> KeySlots:
        """`ids[slot]`: the key at a slot (an evicted row's until it is used again); iterates live keys."""
        return self._keys

    @property
    def top(self) -> int:
        """All slots ever used are below: scan `rows[:top]`, never all of `rows`."""
        return self._keys.top

    def reserved(self) -> list[tuple[NDArray[Any], int]]:
        """The large arrays, and how much of the first axis of each is used or will be at once."""
        by_slot = (self.rows, self.fp, self._held)
        return [*((array, self.top) for array in by_slot), *self._keys.reserved()]

    def lookup(self, keys: Sequence[bytes]) -> tuple[I64, I64]:
        """Slots int64[n] (-1 = not here) of `keys`, and the positions int64[k] of those not here."""
        slots = self._keys.find(keys)
        missing = np.flatnonzero(slots < 0)
        self._used[slots[slots >= 0] if missing.size else slots] = True
        return slots, missing

    def insert(self, keys: Iterable[bytes]) -> I64:
        """Slots int64[n] of `keys`, new ones with zeroed rows (equal keys get one slot).

        Raises ArenaFull when more than `rows_max` rows would be needed: `evict` first.
        """
        keys = list(keys)
        slots, missing = self.lookup(keys)
        if missing.size:
            absent = [keys[i] for i in missing.tolist()]
            fresh = dict.fromkeys(absent)
            made = dict(zip(fresh, self.add(list(fresh)).tolist(), strict=True))
            slots[missing] = [made[key] for key in absent]
        return slots

    def add(self, keys: list[bytes]) -> I64:
        """Zeroed rows for n distinct keys that are not here; returns their slots int64[n].

        Raises ArenaFull.
        """
        if len(self) + len(keys) > self.rows_max:
            raise ArenaFull(
                f"{len(keys)} rows do not fit beside {len(self)} of at most {self.rows_max}; "
                "evict, or checkpoint and flush first"
            )
        reused = [self._free.pop() for _ in range(min(len(keys), len(self._free)))]
        made = [*reused, *range(self.top, self.top + len(keys) - len(reused))]
        slots = np.array(made, np.int64)
        self.fp[slots] = self._keys.add(keys, made)
        self._used[slots] = True
        return slots

    def touch(self, slots: I64) -> None:
        """These rows changed: the next cut copies them."""
        self._dirty[slots] = True

    def dirty_rows(self) -> int:
        """How many rows the next cut will copy."""
        return int(np.count_nonzero(self._dirty[: self.top]))

    def cut_slots(self, number: int) -> I64:
        """Slots of dirty rows; they are clean now and held by cut `number` until it is flushed.

        The cut has the rows as they are now, see `copies`.
        """
        slots = np.flatnonzero(self._dirty[: self.top])
        self._dirty[slots] = False
        self._held[slots] = number
        self._snapshot.save_all()
        self._snapshot = Snapshot(self._whole, self._waits, slots)
        return slots

    def save(self, slots: I64) -> None:
        """These rows are about to change: the last cut copies those that it has not copied yet."""
        self._snapshot.save(slots)

    def copies(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """(tag + key, row bytes) of the last cut's slots, some at a time, each as it was at the cut."""
        return self._copies(self._snapshot)

    def _copies(self, snapshot: Snapshot) -> Iterator[list[tuple[bytes, bytes]]]:
        for slots, rows in snapshot.parts():
            keys = self._keys.keys_at(slots)
            yield [(self.tag + key, row) for key, row in zip(keys, rows.tolist(), strict=True)]

    def restore(self, rows: dict[bytes, bytes]) -> I64:
        """Put rows (key without tag -> bytes) into the arena; returns their slots int64[n].

        Raises ValueError for a value of another size: state of another version.
        """
        size, values = self.rows.itemsize, list(rows.values())
        if any(len(value) != size for value in values):
            raise ValueError(
                f"a stored row is not {size} bytes long; it is of another version: replay instead"
            )
        slots = self.insert(rows)
        self.save(slots)
        for start in range(0, slots.size, COPY_ROWS):
            block = b"".join(values[start : start + COPY_ROWS])
            self._whole[slots[start : start + COPY_ROWS]] = np.frombuffer(block, self._whole.dtype)
        return slots

    def pinned(self) -> NDArray[np.bool_]:
        """bool[slots ever used]: rows that must stay in memory."""
        top = self.top
        return self._dirty[:top] | (self._held[:top] > self.flushed_through)

    def evict(self, count: int, keep: I64 | None = None) -> I64:
        """Free up to `count` unpinned rows, those not used since the last call first; returns their slots.

        `keep`: slots of the batch in hand.
        """
        top = self.top
        stay = self.pinned() | ~self._keys.live[:top]
        if keep is not None:
            stay[keep] = True
        order = np.roll(np.arange(top), -self._hand)  # the clock's hand: go on where the last call stopped
        free = order[~stay[order]]
        chosen = np.concatenate([free[~self._used[free]], free[self._used[free]]])[:count]
        self._used[:top] = False
        self._keys.remove(chosen)
        self._whole[chosen] = np.zeros(1, self._whole.dtype)
        self._free.extend(chosen.tolist())
        if chosen.size:
            self._hand = int(chosen[-1] + 1) % top
        return chosen
