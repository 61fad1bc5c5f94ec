"""A column of text as bytes, lengths and one buffer, with no object per value until it is needed (step 1)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.fingerprint import fp64s

I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]

_FIRST_PRINTABLE, _BEYOND_ASCII = np.uint8(0x20), np.uint8(0x80)
_PRINTABLE = np.uint8(0x7F - 0x20)


class Text:
    """n texts (valid UTF-8) of an Arrow column; absent ones have length 0."""

    def __init__(self, column: pa.Array) -> None:
        self._column = column
        self.nowhere = column.null_count == len(column)

    def __len__(self) -> int:
        return len(self._column)

    @cached_property
    def absent(self) -> Mask | None:
        """bool[n]: where there is none; None where all are there."""
        return absent(self._column)

    @cached_property
    def offsets(self) -> I64:
        return list_offsets(self._column)

    @cached_property
    def data(self) -> bytes:
        """The buffer that `offsets` point into."""
        buffer = self._column.buffers()[2]
        return b"" if buffer is None else buffer.to_pybytes()

    @cached_property
    def lengths(self) -> I64:
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def values(self) -> list[bytes | None]:
        found: list[bytes | None] = self._column.view(pa.binary()).to_pylist()
        return found

    def controls(self) -> Mask | None:
        """bool[n]: which contain control characters (below 0x20, or 0x7F); None where none does."""
        first, last = self.offsets[0], self.offsets[-1]
        data = np.frombuffer(self.data, np.uint8)[first:last]
        control = (data - _FIRST_PRINTABLE) >= _PRINTABLE  # wraps, so that one comparison sees both ends
        if not control.any():
            return None
        control &= data < _BEYOND_ASCII
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(control)])
        at: I64 = self.offsets - first
        found: Mask = before[at[1:]] > before[at[:-1]]
        return found

    def fingerprints(self) -> NDArray[np.uint64]:
        """uint64[n]: fp64 of each, 0 where absent."""
        if self.nowhere:
            return np.zeros(len(self._column), np.uint64)
        if self.absent is None:
            return fp64s(self.values)  # type: ignore[arg-type]
        found = np.zeros(len(self._column), np.uint64)
        found[~self.absent] = fp64s(value for value in self.values if value is not None)
        return found

    def codes(self, code: dict[str, int], unknown: int, absent: int) -> NDArray[np.int16]:
        """int16[n]: `code` of each; `unknown` for texts that it lacks."""
        if self.nowhere:
            return np.full(len(self._column), absent, np.int16)
        encoded = self._column.dictionary_encode()
        texts = encoded.dictionary.to_pylist()
        by_index = np.array([code.get(text, unknown) for text in texts] + [absent], np.int16)
        indices = plain(encoded.indices)
        if self.absent is not None:
            indices = np.where(self.absent, len(texts), indices)
        found: NDArray[np.int16] = by_index[indices]
        return found


def absent(column: pa.Array) -> Mask | None:
    """bool[n]: where an Arrow column is null; None where it nowhere is."""
    if not column.null_count:
        return None
    if column.null_count == len(column):
        return np.ones(len(column), np.bool_)
    validity = np.frombuffer(column.buffers()[0], np.uint8)
    start = column.offset
    bits = np.unpackbits(validity, count=start + len(column), bitorder="little")
    found: Mask = bits[start:] == 0
    return found


def plain(column: pa.Array) -> NDArray[Any]:
    """[n] of a column of numbers of one width, in its own dtype; anything where absent.

    Arrow's own `to_numpy` imports pandas where that is installed, for 0.2 s.
    """
    dtype, buffer = np.dtype(column.type.to_pandas_dtype()), column.buffers()[1]
    if buffer is None:  # an empty column may have none
        return np.zeros(len(column), dtype)
    return np.frombuffer(buffer, dtype, len(column), column.offset * dtype.itemsize)


def list_offsets(column: pa.Array) -> I64:
    """int64[n + 1]: where the values of a text or list column begin and end."""
    buffer = column.buffers()[1]
    if buffer is None:  # an empty column may have none
        return np.zeros(len(column) + 1, np.int64)
    return np.frombuffer(buffer, np.int32, len(column) + 1, column.offset * 4).astype(np.int64)


def list_lengths(column: pa.Array, nowhere: int) -> I64:
    """int64[n]: how many values each list has; `nowhere` where there is none."""
    lengths, missing = np.diff(list_offsets(column)), absent(column)
    return lengths if missing is None else np.where(missing, nowhere, lengths)


def numbers(column: pa.Array) -> tuple[I64, Mask | None]:
    """int64[n] of a whole-number column, 0 where absent, and where that is."""
    if column.null_count == len(column):
        return np.zeros(len(column), np.int64), absent(column)
    found: I64 = np.frombuffer(column.buffers()[1], np.int64, len(column), column.offset * 8)
    missing = absent(column)
    return (found, None) if missing is None else (np.where(missing, 0, found), missing)
