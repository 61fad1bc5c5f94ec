"""Reads become activities, at most one per user and half a minute (the read side closes the loop)."""

from __future__ import annotations

from collections import OrderedDict

COALESCE_S = 30.0
USERS_MAX = 100_000


class Visits:
    """Says which reads are worth an activity. Bounded: the longest silent users are forgotten first.

    >>> visits = Visits()
    >>> visits.worth_telling("ann", 0.0), visits.worth_telling("ann", 29.0), visits.worth_telling("ann", 30.0)
    (True, False, True)
    """

    def __init__(self) -> None:
        self._told_s: OrderedDict[str, float] = OrderedDict()

    def worth_telling(self, user: str, now_s: float) -> bool:
        """True when the user's last visit that was told is COALESCE_S or more ago. `now_s`: monotonic."""
        if now_s - self._told_s.get(user, float("-inf")) < COALESCE_S:
            return False
        self._told_s[user] = now_s
        self._told_s.move_to_end(user)
        if len(self._told_s) > USERS_MAX:
            self._told_s.popitem(last=False)
        return True
