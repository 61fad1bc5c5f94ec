"""Keys of item rows and of item-features (4): an item's fingerprint, 8 bytes, big endian."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.item_deltas import Deltas

U64 = NDArray[np.uint64]
FP_BYTES = 8


def keys_of(fps: U64) -> list[bytes]:
    """The keys of k items.

    >>> keys_of(np.array([1, 256], np.uint64))[1].hex()
    '0000000000000100'
    """
    block = fps.astype(">u8").tobytes()
    return [block[at : at + FP_BYTES] for at in range(0, len(block), FP_BYTES)]


def fps_of(keys: Sequence[bytes]) -> U64:
    """The way back: uint64[k]. Raises ValueError for keys of which not all have 8 bytes."""
    if any(len(key) != FP_BYTES for key in keys):
        raise ValueError(f"a key of an item is not {FP_BYTES} bytes long")
    return np.frombuffer(b"".join(keys), ">u8").astype(np.uint64)


def spoken_of(deltas: Iterable[Deltas]) -> U64:
    """uint64[k]: items that messages speak of, ascending, each once."""
    return np.unique(np.concatenate([fps for one in deltas for fps in (one.cell_fp, one.engager_fp)]))
