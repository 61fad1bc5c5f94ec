"""The bytes of a row (2, 4): as a table for docs/state.md, and as opaque pieces that copy fast."""

from __future__ import annotations

from typing import Any

import numpy as np


def field_table(dtype: np.dtype[np.void]) -> str:
    """Markdown rows of a structured dtype: field, offset, type, shape, bytes.

    >>> print(field_table(np.dtype([("a", "<u4"), ("b", "<i2", (3, 4))])))
    | field | offset | type | shape | bytes |
    |---|---|---|---|---|
    | `a` | 0 | u4 | | 4 |
    | `b` | 4 | i2 | 3 x 4 | 24 |
    | in all | | | | 28 |
    """
    lines = ["| field | offset | type | shape | bytes |", "|---|---|---|---|---|"]
    fields: Any = dtype.fields
    for name, (kind, offset, *_) in fields.items():
        cell, shape = kind.subdtype or (kind, ())
        shown = " x ".join(map(str, shape))
        lines.append(
            f"| `{name}` | {offset} | {_letter(cell)} | {shown}{' ' if shown else ''}| {kind.itemsize} |"
        )
    return "\n".join([*lines, f"| in all | | | | {dtype.itemsize} |"])


def opaque(dtype: np.dtype[np.void], name: str, parts: int = 1) -> np.dtype[np.void]:
    """A dtype of the same size with only field `name`, as `parts` opaque pieces: `rows.view(...)[name]`.

    Indexing rows of small arrays copies number by number; opaque bytes are copied whole, 4 times faster.
    """
    fields: Any = dtype.fields
    kind, offset = fields[name][:2]
    piece = f"V{kind.itemsize // parts}"
    shape = piece if parts == 1 else (piece, (parts,))
    return np.dtype({"names": [name], "formats": [shape], "offsets": [offset], "itemsize": dtype.itemsize})


def _letter(cell: np.dtype[Any]) -> str:
    return "zeros" if cell.kind == "V" else f"{cell.kind}{cell.itemsize}"
