"""What a user was served lately and what they hid: both filter a feed as it is read (read side, no I/O).

Served ids are a sorted set: id -> leg, the time (ms) at which the stretch of pages began that last returned
it. Pages of a leg filter what *earlier* legs returned, so asking for the same page again gives it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from serving.stored import Reply, text
from wire.chunks import Entry
from wire.names import Namespace, hidden

SERVED_TTL_S = 3_600
SERVED_IDS_MAX = 500
HIDDEN_TTL_S = 7 * 86_400
HIDDEN_IDS_MAX = 1_000

Command = tuple[str | bytes | int, ...]
Kind = Literal["item", "author", "topic"]


@dataclass(frozen=True, slots=True)
class Marks:
    """`served` maps ids to legs; `hidden` holds "item:<id>", "author:<id>" and "topic:<topic>"."""

    served: dict[str, int]
    hidden: frozenset[str]

    @property
    def last_leg(self) -> int:
        """The newest leg that served anything, 0 for none."""
        return max(self.served.values(), default=0)

    def verdict(self, entry: Entry, leg: int) -> Literal["served", "hidden"] | None:
        """Why `entry` must not be shown in `leg`; None: it may."""
        if self.hidden and (
            f"item:{entry.id}" in self.hidden
            or f"author:{entry.author}" in self.hidden
            or any(f"topic:{topic}" in self.hidden for topic in entry.topics)
        ):
            return "hidden"
        return "served" if self.served.get(entry.id, leg) < leg else None


def read_commands(names: Namespace, surface: str, user: str) -> list[Command]:
    """Two commands; their replies go to `parse`."""
    return [
        ("ZRANGE", hidden(user), 0, -1),
        ("ZRANGE", names.served_ids(surface, user), 0, -1, "WITHSCORES"),
    ]


def parse(replies: Sequence[Reply], record: bool) -> Marks:
    """Marks of a reader; without `record` what was served does not count."""
    served = _pairs(replies[1]) if record else {}
    return Marks(served, frozenset(map(text, replies[0])))


def _pairs(reply: Sequence[Reply]) -> dict[str, int]:
    """Members and scores, flat (RESP2) or in pairs (RESP3)."""
    if reply and isinstance(reply[0], list | tuple):
        return {text(member): int(float(score)) for member, score in reply}
    return {text(m): int(float(s)) for m, s in zip(reply[::2], reply[1::2], strict=True)}


def served_commands(
    names: Namespace, surface: str, user: str, leg: int, ids: Sequence[str], now_ms: int
) -> list[Command]:
    """Remember that `ids` were returned in `leg`, forget what is older than an hour."""
    key = names.served_ids(surface, user)
    pairs = [part for item in ids for part in (leg, item)]
    return [
        ("ZADD", key, "GT", *pairs),
        ("ZREMRANGEBYSCORE", key, "-inf", now_ms - SERVED_TTL_S * 1_000),
        ("ZREMRANGEBYRANK", key, 0, -SERVED_IDS_MAX - 1),
        ("EXPIRE", key, SERVED_TTL_S),
    ]


def hide_commands(user: str, kind: Kind, name: str, now_ms: int) -> list[Command]:
    """Hide an item, an author or a topic from this user, on every surface and namespace, at once."""
    key = hidden(user)
    return [
        ("ZADD", key, now_ms, f"{kind}:{name}"),
        ("ZREMRANGEBYRANK", key, 0, -HIDDEN_IDS_MAX - 1),
        ("EXPIRE", key, HIDDEN_TTL_S),
    ]


def unhide_commands(user: str, kind: Kind, name: str) -> list[Command]:
    """Undo `hide_commands`."""
    return [("ZREM", hidden(user), f"{kind}:{name}")]
