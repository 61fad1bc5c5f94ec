"""Memory for what will be written next, given by the kernel beforehand and beside the loop (2).

Large arrays are reserved and get memory where they are first written to. That write waits while the kernel
finds and clears a page, of two megabytes where numpy asks for huge ones: 5 ms of a slice, 90 where memory has
to be put together first. Linux does it for a whole range when asked to (MADV_POPULATE_WRITE, since 5.14, see
madvise(2)), without a change to what is there. Elsewhere nothing happens.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np
from numpy.typing import NDArray

_POPULATE_WRITE = 23
CALL_BYTES_MAX = 2 << 20
"""Whoever maps or unmaps memory meanwhile waits for one call."""


def populate(array: NDArray[np.generic], first: int, last: int) -> bool:
    """Have memory behind [first, last) along the first axis of a contiguous array; False where the system
    does not know how, or has none to give (then writing will say so).

    Works without the interpreter: to be called in a thread.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    row_bytes, base = array.strides[0], array.ctypes.data
    start = -(-(base + first * row_bytes) // mmap.PAGESIZE) * mmap.PAGESIZE
    stop = min(base + last * row_bytes, base + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    for at in range(start, stop, CALL_BYTES_MAX):
        size = min(CALL_BYTES_MAX, stop - at)
        if libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(size), _POPULATE_WRITE):
            return False
    return True
