"""Derived records without a live item (5): items and their features come from two topics, in any order."""

from __future__ import annotations

from itertools import islice

import numpy as np
from numpy.typing import NDArray

from models.items import DERIVED

U64 = NDArray[np.uint64]

DERIVED_WAITING_MAX = 50_000


class Waiting:
    """Up to DERIVED_WAITING_MAX records by fp; beyond, the one put first leaves and is counted in `lost`."""

    def __init__(self) -> None:
        self.lost = 0
        self._records: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._records)

    def put(self, fps: U64, records: NDArray[np.void]) -> None:
        """Keep DERIVED[k]; of two for one item that with the larger tick."""
        block, size = records.tobytes(), DERIVED.itemsize
        for place, fp in enumerate(fps.tolist()):
            held = self._records.pop(fp, None)
            if held is not None and np.frombuffer(held, DERIVED)["tick"][0] > records["tick"][place]:
                self._records[fp] = held
            else:
                self._records[fp] = block[place * size : (place + 1) * size]
        excess = max(0, len(self._records) - DERIVED_WAITING_MAX)
        for fp in list(islice(self._records, excess)):
            del self._records[fp]
        self.lost += excess

    def drop(self, fps: U64) -> None:
        """Forget k records."""
        for fp in fps.tolist():
            self._records.pop(fp, None)

    def claim(self, fps: U64) -> tuple[U64, NDArray[np.void]]:
        """The records held for k items that are live now, removed from here: uint64[m], DERIVED[m]."""
        if not self._records:
            return fps[:0], np.zeros(0, DERIVED)
        found = [(fp, record) for fp in fps.tolist() if (record := self._records.pop(fp, None)) is not None]
        records = np.frombuffer(b"".join(record for _, record in found), DERIVED)
        return np.array([fp for fp, _ in found], np.uint64), records
