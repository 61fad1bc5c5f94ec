"""Item rows (3, 4) and the records derived from them (docs/state.md)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.oracle.numbers import DAY_MS, EPOCH_MS, MASK48, fp64
from tests.oracle.policy import EXPOSURE, GRAPH, STRONG, UNDO, WEAK, Policy
from tests.oracle.records import Activity
from tests.oracle.rings import BUCKET_MS, COLUMNS, Ring, Rings
from tests.oracle.users import dwell_s, resolved_ms, resolved_verb

ENGAGERS, DWELL = 16, 4
POSITION_MAX = 99
POSITION_ID = "\0position:"
PLACE_WEIGHT = [45, 29, 23, 20, 18, 16, 15, 14, 14, 13, 13, 12, 12, 12]
PLACE_WEIGHT += [11] * 5 + [10] * 7 + [9] * 13 + [8] * 26 + [7] * 35
UNKNOWN_PLACE_WEIGHT = 16


@dataclass(frozen=True)
class Derived:
    """What everybody knows of an item. `engagers`: (fp48, day), newest first. `examined`: of a week."""

    h1: list[int]
    h24: list[int]
    d7: list[int]
    epoch: int
    long: list[int]
    last_s: int
    engagers: list[tuple[int, int]]
    examined: int = 0


class ItemRow:
    """The statistics of one item, or of one position."""

    def __init__(self) -> None:
        self.rings, self.examined = Rings(), Ring(DAY_MS, 7)
        self.first_s = self.last_s = 0
        self.latest: dict[int, tuple[int, bool]] = {}
        """fp48 of a user -> the largest (time in s, withdrawn)."""

    def count(self, at_ms: int, column: int, count: int) -> None:
        """One cell of a delta."""
        start_ms = at_ms // BUCKET_MS * BUCKET_MS
        self.rings.move(start_ms)
        self.examined.move(self.rings.newest_ms)
        self.rings.count(start_ms, column, count)
        if column in (WEAK, STRONG):
            start_s = start_ms // 1000
            self.first_s = min(self.first_s or start_s, start_s)
            self.last_s = max(self.last_s, start_s)

    def examine(self, at_ms: int, weight: int) -> None:
        """An impression, after it was counted."""
        self.examined.add(at_ms, 0, weight, self.rings.newest_ms)

    def engage(self, user48: int, at_s: int, withdrawn: bool) -> None:
        self.latest[user48] = max(self.latest.get(user48, (0, False)), (at_s, withdrawn))

    def engagers(self) -> list[tuple[int, int, bool]]:
        """(time in s, fp48, withdrawn) of the last 16, newest first."""
        newest = sorted(((s, user, gone) for user, (s, gone) in self.latest.items()), reverse=True)
        return newest[:ENGAGERS]

    def row(self) -> bytes:
        rings, engagers = self.rings, self.engagers()
        rest = [0] * (ENGAGERS - len(engagers))
        return struct.pack(
            "<q2I60i120i35i7i10q16Q16I", rings.newest_ms, self.first_s, self.last_s,
            *rings.m5.places(COLUMNS), *rings.h1.places(COLUMNS), *rings.d1.places(COLUMNS),
            *self.examined.places(1), *rings.long.places(COLUMNS),
            *(user << 1 | gone for _, user, gone in engagers), *rest, *(s for s, _, _ in engagers), *rest,
        )  # fmt: skip

    def derived(self, as_of_ms: int) -> Derived:
        rings, epoch = self.rings, self.rings.newest_ms // EPOCH_MS
        now, before = (rings.long.cells.get(e, [0] * COLUMNS) for e in (epoch, epoch - 1))
        return Derived(
            rings.m5.window(as_of_ms),
            rings.h1.window(as_of_ms),
            rings.d1.window(as_of_ms),
            epoch,
            [a + (b >> 8) for a, b in zip(now, before, strict=True)],
            self.last_s,
            [(user, s // 86_400) for s, user, gone in self.engagers() if not gone],
            self.examined.window(as_of_ms)[0],
        )


def place_weight(place: int) -> int:
    """Of an impression at a place on the page, in sixteenths; -1: unknown."""
    return UNKNOWN_PLACE_WEIGHT if place < 0 else PLACE_WEIGHT[min(place, POSITION_MAX)]


class Items:
    """All item rows by fp64, whatever partition they live in."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.rows: dict[int, ItemRow] = {}

    def apply(self, activity: Activity) -> None:
        """What a record that is no duplicate does to the item's row, and to that of the position."""
        own, verb = self.policy.verbs[activity.verb], resolved_verb(activity, self.policy)
        undo, at_ms = own.role == UNDO, resolved_ms(activity, own)
        if verb.role == GRAPH or at_ms <= 0:
            return
        row = self._row(fp64(activity.object))
        row.count(at_ms, verb.role, -1 if undo else 1)
        if not undo and dwell_s(activity):
            row.count(at_ms, DWELL, dwell_s(activity))
        if verb.role == EXPOSURE:
            row.examine(at_ms, place_weight(activity.position) * (-1 if undo else 1))
        if verb.role <= STRONG and 0 <= activity.position <= POSITION_MAX:
            position = self._row(fp64(f"{POSITION_ID}{activity.position}"))
            position.count(at_ms, verb.role, -1 if undo else 1)
        if verb.role == STRONG:
            row.engage(fp64(activity.actor) & MASK48, at_ms // 1000, undo)

    def _row(self, fp: int) -> ItemRow:
        return self.rows.setdefault(fp, ItemRow())

    def stored(self) -> dict[bytes, bytes]:
        """Key -> value of every row in the changelog."""
        return {b"i" + fp.to_bytes(8, "big"): row.row() for fp, row in self.rows.items()}
