"""Item rows, derived records and deltas as format 2 had them, read as today's (3, 4).

It did not know at which places impressions were. Here they count as those of an unknown place do, so all
of it is what this version makes of the same activities without a `position`; a week later nothing is left
of that.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from models.examination import UNIT
from models.items import DERIVED, EXAMINED_COLUMN, ITEM_ROW
from models.verbs import Role

U64 = NDArray[np.uint64]

ROW_2 = np.dtype(
    [("reserved", "V4") if name == "examined" else (name, ITEM_ROW[name]) for name in ITEM_ROW.names or ()]
)
"""1,152 bytes."""
DERIVED_2 = np.dtype([(name, DERIVED[name]) for name in DERIVED.names or () if name != "examined"])
"""248 bytes."""
DELTAS_MAGIC = b"FRD1"
DELTAS_HEADER = struct.Struct("<4sIqII")


def rows_of_today(rows: NDArray[np.void], positions: NDArray[np.bool_]) -> NDArray[np.void]:
    """ITEM_ROW[k] of ROW_2[k]. `positions` bool[k]: pseudo items of positions, which have no place."""
    found = _with_common(rows, ITEM_ROW)
    found["examined"][:, :, 0] = rows["d1"][:, :, Role.EXPOSURE] * UNIT * ~positions[:, None]
    return found


def derived_of_today(records: NDArray[np.void]) -> NDArray[np.void]:
    """DERIVED[k] of DERIVED_2[k]."""
    found = _with_common(records, DERIVED)
    found["examined"] = records["d7"][:, Role.EXPOSURE].astype(np.int64) * UNIT
    return found


def cells_of_today(
    positions: NDArray[np.bool_], columns: NDArray[np.int8], counts: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.int32]]:
    """Of k cells, the places int64[j] of those to add, and the columns and counts that these have."""
    shown = np.flatnonzero((columns == Role.EXPOSURE) & ~positions)
    return shown, np.full(shown.size, EXAMINED_COLUMN, np.int8), counts[shown] * np.int32(UNIT)


def _with_common(old: NDArray[np.void], dtype: np.dtype[np.void]) -> NDArray[np.void]:
    found = np.zeros(old.size, dtype)
    for name in set(dtype.names or ()) & set(old.dtype.names or ()):
        found[name] = old[name]
    return found
