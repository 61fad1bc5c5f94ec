"""Keys of item rows and of item-features (4): an item's fingerprint, 8 bytes, big endian."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.groups import run_starts
from models.item_deltas import Deltas

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
FP_BYTES = 8


def keys_of(fps: U64) -> list[bytes]:
    """The keys of k items.

    >>> keys_of(np.array([1, 256], np.uint64))[1].hex()
    '0000000000000100'
    """
    keys: list[bytes] = fps.astype(">u8").view(f"V{FP_BYTES}").tolist()
    return keys


def fps_of(keys: Sequence[bytes]) -> U64:
    """The way back: uint64[k]. Raises ValueError for keys of which not all have 8 bytes."""
    if any(len(key) != FP_BYTES for key in keys):
        raise ValueError(f"a key of an item is not {FP_BYTES} bytes long")
    return np.frombuffer(b"".join(keys), ">u8").astype(np.uint64)


def spoken_of(deltas: Iterable[Deltas]) -> U64:
    """uint64[k]: items that messages speak of, ascending, each once."""
    spoken = np.sort(np.concatenate([fps for one in deltas for fps in (one.cell_fp, one.engager_fp)]))
    return spoken[run_starts(spoken)]  # np.unique takes six times as long


def numbered(deltas: Sequence[Deltas]) -> tuple[U64, list[tuple[I64, I64]]]:
    """These items, and of each message the numbers among them of its cells and of its engagers."""
    fps = [fps for one in deltas for fps in (one.cell_fp, one.engager_fp)]
    spoken, numbers = np.unique(np.concatenate(fps), return_inverse=True)
    parts = np.split(numbers, np.cumsum([part.size for part in fps[:-1]]))
    return spoken, list(zip(parts[::2], parts[1::2], strict=True))
