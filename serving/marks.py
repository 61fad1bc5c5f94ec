"""What a user was served lately and what they hid: both filter a feed as it is read (read side, no I/O).

Served ids are a sorted set: id -> leg, the time (ms) at which the stretch of pages began that last returned
it. Pages of a leg filter what *earlier* legs returned, so asking for the same page again gives it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """`served` maps ids to legs; `hidden` holds "item:<id>", "author:<id>" and "topic:<topic>". `carried`: of
    `served`, what the session was served in the namespace that was read before the route changed.
    """

    served: dict[str, int]
    hidden: frozenset[str]
    carried: dict[str, int] = field(default_factory=dict)

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


def read_commands(
    names: Namespace, surface: str, user: str, elsewhere: Namespace | None = None
) -> list[Command]:
    """Two commands, and a third for the namespace `elsewhere`; their replies go to `parse`."""
    served = [one.served_ids(surface, user) for one in (names, elsewhere) if one is not None]
    return [("ZRANGE", hidden(user), 0, -1), *(("ZRANGE", key, 0, -1, "WITHSCORES") for key in served)]


def parse(replies: Sequence[Reply], record: bool, elsewhere: Namespace | None = None) -> Marks:
    """Marks of a reader; without `record` what was served does not count. Of an id that was served here and
    elsewhere the newer leg does."""
    served = _pairs(replies[1]) if record else {}
    carried = {} if elsewhere is None else _pairs(replies[2])
    newest = {item: max(leg, served.get(item, leg)) for item, leg in carried.items()}
    return Marks({**served, **newest}, frozenset(map(text, replies[0])), newest)


def _pairs(reply: Sequence[Reply]) -> dict[str, int]:
    """Members and scores, flat (RESP2) or in pairs (RESP3)."""
    if reply and isinstance(reply[0], list | tuple):
        return {text(member): int(float(score)) for member, score in reply}
    return {text(m): int(float(s)) for m, s in zip(reply[::2], reply[1::2], strict=True)}


def served_commands(
    names: Namespace, surface: str, user: str, legs: Mapping[str, int], now_ms: int
) -> list[Command]:
    """Remember the `legs` in which ids were returned, forget what is older than an hour."""
    key = names.served_ids(surface, user)
    return [
        ("ZADD", key, "GT", *(part for item, leg in legs.items() for part in (leg, item))),
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
