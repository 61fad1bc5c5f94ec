"""Item deltas (3): what a partition's activities did to items, summed until the checkpoint.

One message per target partition (`fp % partitions`), so that item statistics are kept once in the cluster.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.columns import ActivityColumns
from models.effects import Effects
from models.examination import examination
from models.fingerprint import FP48, fp64s
from models.older_items import DELTAS_HEADER, DELTAS_MAGIC, cells_of_today
from models.verbs import Role

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

Cells = tuple[U64, I64, I64]
"""Item fp, bucket << 3 | column, count: [k] each. A count of exposures carries their weight above 32 bits."""

MAGIC = b"FRD2"
POSITIONS = 100
CELLS_MAX = 4_000_000
DWELL, EXAMINED = 4, 5
_WEIGHT_BITS = 32

_HEADER = struct.Struct("<4sIqqII")
_HEADERS = {MAGIC: _HEADER, DELTAS_MAGIC: DELTAS_HEADER}
_CELL_BYTES = 8 + 4 + 4 + 1
_ENGAGER_BYTES = 8 + 8 + 4
_NOTHING = np.empty(0, np.int64)
_NO_ENGAGERS = (np.empty(0, np.uint64), np.empty(0, np.uint64), _NOTHING)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_DTYPES = ("<u8", "<i4", "<i4", "<u8", "<u8", "<u4", "i1")
_POSITION_FP = fp64s(b"\0position:%d" % n for n in range(POSITIONS))


def position_fp(position: int) -> int:
    """fp64 of the pseudo item that holds the statistics of a 0-based position below 100."""
    return int(_POSITION_FP[position])


def of_positions(fps: U64) -> NDArray[np.bool_]:
    """bool[k]: which of uint64[k] are such pseudo items."""
    return np.isin(fps, _POSITION_FP)


@dataclass(frozen=True, slots=True)
class Deltas:
    """One decoded message: k cells (item, 5-minute bucket, column 0..5, signed count) and j engagers
    (`fp48 of the user << 1 | withdrawn`, seconds), of the sender's activities before offset `position`."""

    sender: int
    watermark_ms: int
    position: int
    cell_fp: U64
    bucket: NDArray[np.int32]
    count: NDArray[np.int32]
    column: NDArray[np.int8]
    engager_fp: U64
    engager: U64
    engager_s: NDArray[np.uint32]


class ItemDeltas:
    """Accumulates batches of one partition; `drain` sums them and starts again."""

    def __init__(self) -> None:
        self._cells: list[Cells] = []
        self._shown: list[I64] = []
        self._engagers: list[tuple[U64, U64, I64]] = []
        self.records = 0

    def add(
        self, columns: ActivityColumns, effects: Effects, duplicate: NDArray[np.bool_], user_fp: U64
    ) -> None:
        """Add a batch of n activities; `duplicate` bool[n] are left out; `user_fp` uint64[n]: the actors."""
        counted = np.flatnonzero((effects.role <= Role.NEGATIVE) & ~duplicate & (effects.at_ms > 0))
        fp, undo = columns.object_fp[counted], effects.undo[counted]
        column = effects.role[counted].astype(np.int64)
        when = (effects.bucket[counted] << 3) | column
        count, position = 1 - 2 * undo.astype(np.int64), columns.position[counted]
        seen = np.flatnonzero(column == Role.EXPOSURE)
        count[seen] *= 1 + (examination(position[seen]) << _WEIGHT_BITS)
        self._cells.append((fp, when, count))
        if effects.any_dwell:
            dwell = effects.dwell_s[counted]
            some = np.flatnonzero(dwell)
            self._cells.append((fp[some], (when[some] & ~7) | DWELL, dwell[some]))
        shown = np.flatnonzero((position >= 0) & (position < POSITIONS) & (column <= Role.STRONG))
        if shown.size:
            self._shown.append((((when[shown] << 7) | position[shown]) << 1) | undo[shown])
        strong = np.flatnonzero(column == Role.STRONG)
        if strong.size:
            who = (user_fp[counted[strong]] & FP48) << np.uint64(1) | undo[strong].astype(np.uint64)
            self._engagers.append((fp[strong], who, effects.at_ms[counted[strong]] // 1_000))
        self.records += counted.size

    def take(self) -> ItemDeltas:
        """All that was added so far, to be drained later; nothing is left here."""
        taken = ItemDeltas()
        taken._cells, self._cells = self._cells, []
        taken._shown, self._shown = self._shown, []
        taken._engagers, self._engagers = self._engagers, []
        taken.records, self.records = self.records, 0
        return taken

    def drain(self, partitions: int, sender: int, watermark_ms: int, position: int) -> dict[int, bytes]:
        """One message for each of `partitions`, also an empty one: it carries the sender's watermark and
        position."""
        cells, engagers = [*self._cells, _sum_shown(self._shown)], self._engagers
        self._cells, self._shown, self._engagers, self.records = [], [], [], 0
        fp, when, count = (np.concatenate(column) for column in zip(*cells, strict=True))
        fp, when, count = _with_examined(*_sum_cells(fp, when, count, partitions))
        e_fp, who, at_s = (np.concatenate(column) for column in zip(_NO_ENGAGERS, *engagers, strict=True))
        e_part = e_fp % np.uint64(partitions)
        bounds = np.searchsorted(fp % np.uint64(partitions), np.arange(partitions + 1))
        messages = {}
        for partition in range(partitions):
            c, e = slice(*bounds[partition : partition + 2]), np.flatnonzero(e_part == partition)
            columns = (
                fp[c],
                (when[c] >> 3).astype("<i4"),
                count[c].astype("<i4"),
                e_fp[e],
                who[e],
                at_s[e].astype("<u4"),
                (when[c] & 7).astype("i1"),
            )
            head = _HEADER.pack(MAGIC, sender, watermark_ms, position, columns[0].size, e.size)
            messages[partition] = b"".join([head, *(column.tobytes() for column in columns)])
        return messages


def _sum_shown(shown: list[I64]) -> Cells:
    """Cells of the pseudo items of positions, from `bucket | column (3 bits) | position (7) | undo (1)`."""
    packed, times = np.unique(np.concatenate([*shown, _NOTHING]), return_counts=True)
    times[(packed & 1) == 1] *= -1
    return _POSITION_FP[(packed >> 1) & 127], packed >> 8, times


def _with_examined(fp: U64, when: I64, count: I64) -> Cells:
    """Summed cells, those with a weight followed by a cell of it: one sum instead of two, in order."""
    plain = count.astype(np.int32).astype(np.int64)  # the lower 32 bits, signed
    weight = (count - plain) >> _WEIGHT_BITS
    at = np.repeat(np.arange(fp.size), 1 + (weight != 0))
    added = np.flatnonzero(at[1:] == at[:-1]) + 1
    fp, when, count = fp[at], when[at], plain[at]
    when[added] += EXAMINED - Role.EXPOSURE
    count[added] = weight[at[added]]
    return fp, when, count


def _sum_cells(fp: U64, when: I64, count: I64, partitions: int) -> Cells:
    """Sum equal (fp, when), in order of partition: one sort of plain integers, hash above position.

    Two cells whose hashes share all high bits may be sent in parts, which readers add up anyway.
    """
    if not fp.size:
        return fp, when, count
    bits = np.uint64(fp.size.bit_length())
    mixed = (fp ^ (when.astype(np.uint64) * _MIX)) * _MIX
    room = np.uint64(64 - partitions.bit_length())
    key = ((fp % np.uint64(partitions)) << room) | ((mixed >> (np.uint64(64) - room + bits)) << bits)
    packed = np.sort(key | np.arange(fp.size, dtype=np.uint64))
    order = (packed & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    fp, when = fp[order], when[order]
    starts = np.flatnonzero(np.r_[True, (fp[1:] != fp[:-1]) | (when[1:] != when[:-1])])
    return fp[starts], when[starts], np.add.reduceat(count[order], starts)


def decode(message: bytes) -> Deltas:
    """Raises ValueError when `message` is not one complete item-deltas message of this version or the last.

    The last one's say nothing of positions in activities: `position` is 0.
    """
    magic = message[:4]
    header = _HEADERS.get(magic, _HEADER)
    if len(message) < header.size:
        raise ValueError(
            f"item-deltas message of {len(message)} bytes is cut short; check the topic's producers"
        )
    if magic not in _HEADERS:
        raise ValueError(
            f"item-deltas message starts with {magic!r}, not {MAGIC!r}; replay into a new namespace"
        )
    _, sender, watermark_ms, *at, cells, engagers = header.unpack_from(message)
    if max(cells, engagers) > CELLS_MAX:
        raise ValueError(
            f"item-deltas message claims {max(cells, engagers)} entries, over {CELLS_MAX}; it is broken"
        )
    want = header.size + cells * _CELL_BYTES + engagers * _ENGAGER_BYTES
    if len(message) != want:
        raise ValueError(
            f"item-deltas message has {len(message)} bytes, its header says {want}; it is broken"
        )
    offset, columns = header.size, []
    for dtype, count in zip(_DTYPES, [cells] * 3 + [engagers] * 3 + [cells], strict=True):
        columns.append(np.frombuffer(message, dtype, count, offset))
        offset += columns[-1].nbytes
    fp, bucket, counts, engager_fp, who, at_s, column = columns
    if cells and (column.min() < 0 or column.max() > EXAMINED or bucket.min() < 0):
        raise ValueError(
            f"item-deltas message has a column outside 0..{EXAMINED} or a time before 1970; it is broken"
        )
    if magic != MAGIC:
        shown, examined, weights = cells_of_today(of_positions(fp), column, counts)
        fp, bucket = np.r_[fp, fp[shown]], np.r_[bucket, bucket[shown]]
        column, counts = np.r_[column, examined], np.r_[counts, weights]
    return Deltas(sender, watermark_ms, sum(at), fp, bucket, counts, column, engager_fp, who, at_s)
