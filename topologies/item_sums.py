"""Item deltas added to stored item rows without a shard (4): for who takes a stopped namespace out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.item_deltas import Deltas
from models.items import ITEM_ROW, apply_deltas, new_rows
from topologies.item_keys import keys_of, numbered

TAG = b"i"
U64 = NDArray[np.uint64]


def of_items(deltas: Deltas, wanted: Callable[[U64], NDArray[np.bool_]]) -> Deltas:
    """The part of a message that speaks of wanted items (bool[k] of k fps)."""
    cells, engagers = wanted(deltas.cell_fp), wanted(deltas.engager_fp)
    return replace(
        deltas,
        cell_fp=deltas.cell_fp[cells],
        bucket=deltas.bucket[cells],
        count=deltas.count[cells],
        column=deltas.column[cells],
        engager_fp=deltas.engager_fp[engagers],
        engager=deltas.engager[engagers],
        engager_s=deltas.engager_s[engagers],
    )


def add_deltas(rows: dict[bytes, bytes], messages: Iterable[Deltas]) -> dict[bytes, bytes]:
    """All of `rows` (tagged key -> bytes), those that the messages speak of with them applied."""
    found = dict(rows)
    for deltas in messages:
        fps, [(cells, engagers)] = numbered([deltas])
        if not fps.size:
            continue
        keys = [TAG + key for key in keys_of(fps)]
        held = new_rows(len(keys))
        for at, key in enumerate(keys):
            if key in found:
                held[at] = np.frombuffer(found[key], ITEM_ROW)[0]
        apply_deltas(held, cells, engagers, deltas)
        found |= {key: held[at].tobytes() for at, key in enumerate(keys)}
    return found
