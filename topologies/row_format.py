"""Whether stored rows are of a format that this version reads, and how older ones become today's (2, 4)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.item_deltas import of_positions
from models.items import DERIVED, ITEM_ROW
from models.older_items import DERIVED_2, ROW_2, derived_of_today, rows_of_today
from topologies.item_keys import fps_of

USER_ROWS = 1
ITEM_ROWS = 3
ITEM_ROWS_READ = 2
"""The oldest format of item rows that is migrated. 1 had no `tick_ms` in the position record, 2 no
impressions weighted by place and no positions of the senders."""

ITEM_TAG = b"i"


def check_row_format(where: str, found: int, ours: int, oldest: int | None = None) -> None:
    """Raises ValueError for a newer one, and for one before `oldest` (None: `ours`)."""
    if found > ours:
        raise ValueError(
            f"{where} holds rows of format {found}, this version writes {ours}: a newer feedrank wrote them. "
            "Start that version again, or replay into a new namespace"
        )
    if found < (ours if oldest is None else oldest):
        raise ValueError(
            f"{where} holds rows of format {found}, this version writes {ours}: an older feedrank wrote "
            "them; replay into a new namespace (docs/operations.md, Upgrade)"
        )


def item_rows_of_today(rows: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """Rows (tagged key -> bytes) with item rows of format 2 made into ITEM_ROWs; all others stay.

    A row keeps the bytes that it was written with until it changes, so rows of both formats stand side by
    side; their sizes tell them apart.
    """
    size = ROW_2.itemsize
    old = [key for key, value in rows.items() if len(value) == size and key[:1] == ITEM_TAG]
    if not old:
        return rows
    found = np.frombuffer(b"".join(rows[key] for key in old), ROW_2)
    made = rows_of_today(found, of_positions(fps_of([key[1:] for key in old])))
    return {**rows, **dict(zip(old, _cut(made.tobytes(), ITEM_ROW.itemsize), strict=True))}


def records_of_today(records: dict[bytes, bytes | None]) -> dict[bytes, bytes | None]:
    """Derived records (by key) with those of format 2 made into DERIVEDs; all others stay."""
    old = {key: value for key, value in records.items() if value and len(value) == DERIVED_2.itemsize}
    if not old:
        return records
    made = derived_of_today(np.frombuffer(b"".join(old.values()), DERIVED_2))
    return {**records, **dict(zip(old, _cut(made.tobytes(), DERIVED.itemsize), strict=True))}


def _cut(block: bytes, size: int) -> list[bytes]:
    return [block[at : at + size] for at in range(0, len(block), size)]
