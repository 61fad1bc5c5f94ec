"""What comes in: activities and items, as docs/wire.md has them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tests.oracle.numbers import MASK32, MASK48, fp32, fp64

EMBEDDING_DIM = 64
ITEM_TOPICS_MAX = 4
KINDS = ("author", "topic", "keyword")


@dataclass(frozen=True)
class Activity:
    """A good record; absent numbers are 0, an absent position is -1."""

    activity_id: str
    actor: str
    verb: str
    object: str
    time_ms: int
    target: str | None = None
    dwell_ms: int = 0
    position: int = -1
    undone_verb: str | None = None
    undone_ms: int = 0


@dataclass(frozen=True)
class Item:
    """`embedding`: 64 whole numbers from -127 to 127, already rounded as docs/wire.md says, or None."""

    item_id: str
    author: str
    created_ms: int
    topics: tuple[str, ...] = ()
    title: str | None = None
    embedding: tuple[int, ...] | None = None

    @cached_property
    def fp(self) -> int:
        return fp64(self.item_id)

    @cached_property
    def author48(self) -> int:
        return fp64(self.author) & MASK48

    @property
    def author32(self) -> int:
        return self.author48 & MASK32

    @cached_property
    def topics32(self) -> dict[int, str]:
        """The first four distinct topics by fp32."""
        found: dict[int, str] = {}
        for topic in self.topics:
            found.setdefault(fp32(topic), topic)
        return dict(list(found.items())[:ITEM_TOPICS_MAX])

    @property
    def newness(self) -> tuple[int, int]:
        """Newer is larger."""
        return self.created_ms, self.fp
