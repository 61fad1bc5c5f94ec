"""Order of candidates (9, 10): best first, ties by the item's fingerprint, in one sort of integers.

A key is (2^31 - score) << 32 | the upper 21 bits of fp << 11 | the candidate's place. Candidates that are out
come last, by place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.groups import run_sizes, run_starts

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

PLACE_BITS = 11
FP_BITS = 21
_TOP = float(1 << 31)
_OUT = np.iinfo(np.int64).max >> PLACE_BITS << PLACE_BITS


def order(score: F64, tie: I64, alive: Bools) -> I64:
    """int64[U, C]: keys, ascending in each row. |score| <= 2^31 - 2; `tie` is made by `ties`."""
    keys = (_TOP - score).astype(np.uint32).astype(np.int64)
    keys <<= PLACE_BITS + FP_BITS
    keys |= tie
    # keys of bad scores use the sign bit: moved down by 2^63 they sort as the unsigned numbers they are
    keys ^= np.int64(-(1 << 63))
    keys = np.where(alive, keys, _OUT | np.arange(keys.shape[1]))
    keys.sort(axis=1)
    return keys


def ties(fp: U64) -> I64:
    """int64[U, C]: what decides between equal scores."""
    upper = (fp >> np.uint64(64 - FP_BITS)).astype(np.int64) << PLACE_BITS
    return upper | np.arange(fp.shape[1])


def places(keys: I64) -> I64:
    """int64[U, C]: the places of the candidates, best first; those that are out come last."""
    return keys & ((1 << PLACE_BITS) - 1)


def placed(place: I64) -> I64:
    """int64[U, C]: places as flat ones in [U * C]."""
    flat: I64 = place + np.arange(len(place))[:, None] * place.shape[1]
    return flat


def true_places(mask: Bools) -> tuple[I64, I64]:
    """Row int64[k] and column int64[k] of what is true in bool[U, C]: numpy's nonzero of two dimensions takes
    ten times as long."""
    flat = mask.reshape(-1).nonzero()[0]
    row = flat // mask.shape[1]
    return row, flat - row * mask.shape[1]


def run_places(groups: I64) -> I64:
    """int64[U, C]: how many equal values stand before each one in its row (0 <= value < 2^52)."""
    columns = np.arange(groups.shape[1])
    keys = groups << PLACE_BITS | columns
    keys.sort(axis=1)
    out = np.empty_like(keys)
    out.reshape(-1)[placed(places(keys))] = columns - run_begins(keys)
    return out


def run_begins(keys: I64) -> I64:
    """int64[U, C]: where in its sorted row each key's run begins; keys of a run differ in the place only."""
    run = keys >> PLACE_BITS
    begins = np.empty_like(keys)
    begins[:] = np.arange(keys.shape[1])
    again = np.zeros(keys.shape, np.bool_)
    np.equal(run[:, 1:], run[:, :-1], out=again[:, 1:])
    flat = again.reshape(-1).nonzero()[0]  # few or some: only they are told where their runs begin
    starts = run_starts(flat - np.arange(len(flat)))
    begin = begins.reshape(-1).take(flat.take(starts) - 1)
    begins.reshape(-1)[flat] = begin.repeat(run_sizes(starts, len(flat)))
    return begins
