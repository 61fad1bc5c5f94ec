"""What a reader gets: a page of a feed, its entries, and what was left out (read side)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wire.chunks import Entry
from wire.names import SURFACES

FEED = "feed"
GLOBAL = "global"
TOPIC = "topic:"
LIMIT_DEFAULT = 20
LIMIT_MAX = 100

Reason = Literal["", "no_feed", "returning", "past_the_end", "older_than_min_version", "damaged"]
REASONS: tuple[Reason, ...] = (
    "",
    "no_feed",
    "returning",
    "past_the_end",
    "older_than_min_version",
    "damaged",
)


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One item on a page. `position`: 0-based place on this page, what clients send back as an activity's
    position; `rank`: 0-based place in the feed as it was emitted. The rest is as in wire.chunks.Entry."""

    position: int
    rank: int
    id: str
    author: str
    created_at: int
    score: float
    source: str
    why: tuple[str, ...]
    group: str | None
    title: str | None
    topics: tuple[str, ...]

    @classmethod
    def of(cls, entry: Entry, position: int, rank: int) -> FeedEntry:
        """A stored entry at its place."""
        return cls(
            position,
            rank,
            entry.id,
            entry.author,
            entry.created_at,
            entry.score,
            entry.source,
            entry.why,
            entry.group,
            entry.title,
            entry.topics,
        )


@dataclass(frozen=True, slots=True)
class Dropped:
    """An entry that was emitted and is not shown: `why` is served or hidden."""

    rank: int
    id: str
    why: Literal["served", "hidden"]


@dataclass(frozen=True, slots=True)
class FeedPage:
    """One page.

    `source` is "feed" for the user's own feed, else the fallback: "global" or "topic:<topic>", with the
    `reason` for it. `restarted`: the version that the cursor names is gone, this page begins what is newer,
    without what was served. `stale`: the feed should have been renewed by now. `cursor` is None at the end.
    `version` is "" where there was nothing to read. `slate_id`: clients send it back with their activities.
    Times are ms since 1970.
    """

    user: str
    surface: str
    namespace: str
    source: str
    reason: Reason
    version: str
    generated_at: int
    stale_after: int
    stale: bool
    restarted: bool
    policy: str
    model: str
    page: int
    slate_id: str
    entries: tuple[FeedEntry, ...]
    dropped: tuple[Dropped, ...]
    cursor: str | None


def slate_id(surface: str, namespace: str, version: str, page: int, source: str) -> str:
    """Names surface, namespace, version and page; a fallback's also its kind.

    >>> slate_id("for_you", "live", "v", 2, "topic:jazz")
    'for_you:live:v:2:topic'
    """
    kind = "" if source == FEED else ":" + source.partition(":")[0]
    return f"{surface}:{namespace}:{version}:{page}{kind}"


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What is asked for; `serving.checks.checked` says whether it can be.

    `record`: this is a person reading: pin the feed, filter what was served, remember what is served now.
    Without it (inspectors, tests) the read leaves no trace. `topic`: which topic's fallback to prefer.
    """

    user: str
    surface: str = SURFACES[0]
    limit: int = LIMIT_DEFAULT
    cursor: str | None = None
    min_version: str | None = None
    older: Literal["raise", "fallback"] = "raise"
    topic: str | None = None
    record: bool = True
