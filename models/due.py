"""Who is due (6): users whose feed should be ranked again, most valuable first, within a budget per second.

Overload makes feeds less fresh and says so; it never touches an activity. Nothing here is part of a row, a
digest or a feature. docs/candidates.md states the value and the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Generic, TypeVar

User = TypeVar("User", int, bytes)

DUE_USERS_MAX = 100_000
DUE_PER_S = 4_000
DUE_BURST = 4_000
READ_SOON_ONE = 1_024
READ_SOON_HALF_S = 600
"""Idle for so long, a user is half as likely to read soon as one who just acted."""

CHANGE_MAX = 1_023
_LEVELS_PER_DOUBLING_BITS = 2


class Reason(IntFlag):
    """Why a user is due. The first three are about what the user just did and are never displaced."""

    VISIT = 1
    EXPLICIT = 2
    NEGATIVE = 4
    MISSING = 8
    NEW_ITEM = 16
    STALE = 32
    SETTLE = 64


OWN = Reason.VISIT | Reason.EXPLICIT | Reason.NEGATIVE

EXPECTED_CHANGE = {
    Reason.VISIT: 768,
    Reason.EXPLICIT: 640,
    Reason.NEGATIVE: 704,
    Reason.MISSING: 512,
    Reason.NEW_ITEM: 64,
    Reason.STALE: 16,
    Reason.SETTLE: 1,
}
"""How much of a feed each reason is expected to change, relative to each other. Own acts come before missing
feeds: after a takeover a whole partition is missing, and those who look now must not wait behind it."""

_CHANGE = [
    min(CHANGE_MAX, sum(change for reason, change in EXPECTED_CHANGE.items() if reason & bits))
    for bits in range(2 * Reason.SETTLE)
]


@dataclass(slots=True)
class Due(Generic[User]):
    """One user who is due: all reasons so far, since when, last active when, and how valuable."""

    user: User
    reasons: Reason
    since_ms: int
    active_ms: int
    value: int


class DueQueue(Generic[User]):
    """At most `users_max` due users, each once; `per_s` may be popped, `burst` at once after a pause.

    `refused`: marks turned away, `displaced`: users who left for more valuable ones, `refused_own`: of the
    refused those whose reason was the user's own act (only when everyone in the queue has such a reason),
    `coalesced`: marks that joined a user who waited already. Whoever owns the queue tells them.
    """

    def __init__(
        self, users_max: int = DUE_USERS_MAX, per_s: int = DUE_PER_S, burst: int = DUE_BURST
    ) -> None:
        self.refused: int = 0
        self.refused_own: int = 0
        self.displaced: int = 0
        self.coalesced: int = 0
        self._users_max: int = users_max
        self._per_s: int = per_s
        self._burst: int = burst
        self._shelf_of: dict[User, int] = {}
        self._shelves: list[dict[User, Due[User]]] = [{} for _ in range(2 * (_level(_VALUE_MAX) + 1))]
        self._filled = 0  # bit s is set when shelf s holds someone
        self._tokens_m = burst * 1_000
        self._filled_ms: int | None = None

    def __len__(self) -> int:
        return len(self._shelf_of)

    @property
    def own(self) -> bool:
        """Whether someone waits who did something: the others only keep feeds in good order."""
        return self.holds(own=True)

    def holds(self, own: bool) -> bool:
        """Whether someone is due by an act of their own, or (`own` is False) without one."""
        return bool(self._filled & _SHELVES[own])

    def mark(self, user: User, reasons: Reason, now_ms: int, active_ms: int) -> bool:
        """The user is due for one more reason; `active_ms`: when they last did something.

        Returns False when the queue is full of more valuable users: the mark is refused and counted.
        """
        shelf = self._shelf_of.get(user)
        if shelf is None:
            due = Due(user, reasons, now_ms, active_ms, value_of(reasons, now_ms - active_ms))
            if len(self._shelf_of) >= self._users_max and not self._make_room(due):
                return False
            self._put(due)
            return True
        due = self._shelves[shelf][user]
        due.active_ms = max(due.active_ms, active_ms)
        known = int(due.reasons)
        if known | reasons.value == known and due.value == READ_SOON_ONE * _CHANGE[known]:
            self.coalesced += 1  # as valuable as can be, and most marks are of the same reason
            return True
        due.reasons |= reasons
        due.value = max(due.value, value_of(due.reasons, now_ms - due.active_ms))
        self.coalesced += 1
        if _shelf(due) != shelf:
            self._take(shelf, user)
            self._put(due)
        return True

    def pop(self, users_max: int, now_ms: int, own: bool | None = None) -> list[Due[User]]:
        """Up to `users_max` users, as far as the budget goes: by (level of value desc, the user's own act
        first, longest at this level). `own`: only users due by an act of theirs, or only the others."""
        self._refill(now_ms)
        found: list[Due[User]] = []
        shelves = -1 if own is None else _SHELVES[own]
        while len(found) < users_max and self._filled & shelves and self._tokens_m >= 1_000:
            shelf = (self._filled & shelves).bit_length() - 1
            found.append(self._take(shelf, next(iter(self._shelves[shelf]))))
            self._tokens_m -= 1_000
        return found

    def discard(self, user: User) -> None:
        """The user is no longer active here (evicted, or the partition went to another worker)."""
        shelf = self._shelf_of.get(user)
        if shelf is not None:
            self._take(shelf, user)

    def _make_room(self, new: Due[User]) -> bool:
        """Displace the least valuable who may be displaced, the last to come; False = `new` is that one."""
        displaceable = self._filled & _NOT_OWN
        lowest = (displaceable & -displaceable).bit_length() - 1
        own = bool(new.reasons & OWN)
        if lowest >= 0 and (own or _shelf(new) > lowest):
            self._take(lowest, next(reversed(self._shelves[lowest])))
            self.displaced += 1
            return True
        self.refused += 1
        self.refused_own += own
        return False

    def _put(self, due: Due[User]) -> None:
        shelf = _shelf(due)
        self._shelves[shelf][due.user] = due
        self._shelf_of[due.user] = shelf
        self._filled |= 1 << shelf

    def _take(self, shelf: int, user: User) -> Due[User]:
        due = self._shelves[shelf].pop(user)
        del self._shelf_of[user]
        if not self._shelves[shelf]:
            self._filled &= ~(1 << shelf)
        return due

    def _refill(self, now_ms: int) -> None:
        """Tokens come with time; a clock that stands still or goes back brings none."""
        if self._filled_ms is not None and now_ms > self._filled_ms:
            gained = (now_ms - self._filled_ms) * self._per_s
            self._tokens_m = min(self._burst * 1_000, self._tokens_m + gained)
        self._filled_ms = now_ms if self._filled_ms is None else max(now_ms, self._filled_ms)


def read_soon(idle_ms: int) -> int:
    """1..1024: how likely a user reads soon who was last active so long ago: 1024 * 600 // (600 + seconds).

    >>> read_soon(0), read_soon(600_000), read_soon(86_400_000)
    (1024, 512, 7)
    """
    idle_s = max(0, idle_ms) // 1_000
    return max(1, READ_SOON_ONE * READ_SOON_HALF_S // (READ_SOON_HALF_S + idle_s))


def value_of(reasons: Reason, idle_ms: int) -> int:
    """How likely the user reads soon, times the sum of the expected changes (1,023 at most)."""
    return read_soon(idle_ms) * _CHANGE[reasons]


def _level(value: int) -> int:
    """Values in steps of a quarter of a doubling: users of one level count as equally valuable.

    >>> [_level(v) for v in (1, 2, 3, 4, 5, 7, 8, 9, 10, 1_024)]
    [1, 2, 3, 8, 9, 11, 12, 12, 13, 40]
    """
    bits = value.bit_length() - 1
    if bits < _LEVELS_PER_DOUBLING_BITS:
        return value
    step = (value >> (bits - _LEVELS_PER_DOUBLING_BITS)) & ((1 << _LEVELS_PER_DOUBLING_BITS) - 1)
    return (bits << _LEVELS_PER_DOUBLING_BITS) | step


def _shelf(due: Due[User]) -> int:
    return 2 * _level(due.value) + bool(due.reasons & OWN)


_VALUE_MAX = READ_SOON_ONE * CHANGE_MAX
_NOT_OWN = int("01" * (_level(_VALUE_MAX) + 1), 2)  # the even shelves
_SHELVES = {False: _NOT_OWN, True: _NOT_OWN << 1}
