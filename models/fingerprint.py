"""Fingerprints: ids as 64-bit numbers, so that rows and columns hold no strings."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_digest, xxh3_64_intdigest

FP48 = np.uint64((1 << 48) - 1)
FP32 = np.uint64((1 << 32) - 1)


def fp64(identifier: bytes) -> int:
    """XXH3-64 with seed 0 of the id's bytes (github.com/Cyan4973/xxHash).

    >>> hex(fp64(b"user-1"))
    '0x7c7615c11438e5c9'
    """
    return xxh3_64_intdigest(identifier)


def fp64s(identifiers: Iterable[bytes]) -> NDArray[np.uint64]:
    """uint64[n]: the fingerprints of n ids."""
    return np.frombuffer(b"".join(map(xxh3_64_digest, identifiers)), ">u8").astype(np.uint64)
