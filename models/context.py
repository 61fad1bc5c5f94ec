"""Whom a slice is ranked for (7 to 10): 1 to 64 users with their rows, graphs and seen entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.fingerprint import fp64s
from models.graph import GraphRow
from models.merge import ItemLookup, Rows, merge_unfinished
from models.verbs import VerbTable

U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class UserBatch:
    """U users, read only.

    `ids`: their ids; `fp` uint64[U]; `rows` USER_ROW[U] as stored (zeros for a new user); `merged`
    USER_ROW[U], a copy with the unfinished ring merged; `seen`: U arrays uint64[k] of entries
    `fp32 << 32 | day << 16 | times`; `graph`: U graph rows.
    """

    ids: list[bytes]
    fp: U64
    rows: Rows
    merged: Rows
    seen: list[U64]
    graph: list[GraphRow]

    @classmethod
    def of(
        cls,
        ids: Sequence[bytes],
        rows: Rows,
        seen: Sequence[U64],
        graph: Sequence[GraphRow],
        items: ItemLookup,
        verbs: VerbTable,
    ) -> UserBatch:
        """Merges the rings on a copy; `items` is the item index of the ranking."""
        merged = rows.copy()
        merge_unfinished(merged, items, verbs)
        return cls(list(ids), fp64s(ids), rows, merged, list(seen), list(graph))

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> UserBatch:
        """The users [start, stop)."""
        cut = slice(start, stop)
        return UserBatch(
            self.ids[cut], self.fp[cut], self.rows[cut], self.merged[cut], self.seen[cut], self.graph[cut]
        )
