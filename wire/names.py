"""Names on the wire: topics, groups and Redis keys. Everything internal carries the namespace."""

from __future__ import annotations

import re
from dataclasses import dataclass

ACTIVITIES = "feedrank.activities"
ITEMS = "feedrank.items"
DEAD_LETTERS = "feedrank.dead-letters"
JOBS = "feedrank.jobs"
ROUTE_KEY = "feedrank:route"
SURFACES = ("for_you", "following")
ID_BYTES_MAX = 128

_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z")


@dataclass(frozen=True, slots=True)
class Namespace:
    """All private names of one namespace.

    Raises ValueError for a name that is not 1 to 32 characters of a-z, 0-9, '-' and '_'.

    >>> Namespace("live").item_deltas
    'feedrank.live.item-deltas'
    """

    name: str

    def __post_init__(self) -> None:
        if not _NAMESPACE.match(self.name):
            raise ValueError(
                f"namespace {self.name!r} is not 1 to 32 characters of a-z, 0-9, '-', '_'; choose another"
            )

    @property
    def group(self) -> str:
        return f"feedrank.{self.name}"

    @property
    def item_deltas(self) -> str:
        return f"feedrank.{self.name}.item-deltas"

    @property
    def item_features(self) -> str:
        return f"feedrank.{self.name}.item-features"

    @property
    def served(self) -> str:
        return f"feedrank.{self.name}.served"

    @property
    def users_changelog(self) -> str:
        return f"feedrank.{self.name}.users-changelog"

    @property
    def item_rows_changelog(self) -> str:
        return f"feedrank.{self.name}.item-rows-changelog"

    def transactional_id(self, topic: str, partition: int) -> str:
        return f"feedrank.{self.name}.{topic}.{partition}"

    def feed(self, surface: str, user: str) -> str:
        return f"feed:{self.name}:{surface}:{{{user}}}"

    def snapshot(self, surface: str, user: str, version: str) -> str:
        return f"feed:{self.name}:{surface}:{{{user}}}:{version}"

    def pin(self, surface: str, user: str) -> str:
        """Present while a reader is inside the head: the fence then keeps the head that it replaces."""
        return f"pin:{self.name}:{surface}:{{{user}}}"

    def served_ids(self, surface: str, user: str) -> str:
        return f"served:{self.name}:{surface}:{{{user}}}"

    def fallback(self, surface: str, topic: str | None = None) -> str:
        return f"feed:{self.name}:{surface}:" + ("global" if topic is None else f"topic:{topic}")

    @property
    def changed(self) -> str:
        return f"feedrank:changed:{self.name}"

    def present(self, marker: int) -> str:
        """Marks a Redis that holds this namespace's feeds; missing: it is new or came back empty."""
        return f"feedrank:present:{self.name}:{marker}"


def hidden(user: str) -> str:
    """Items, authors and topics that the API hid at once, for all namespaces."""
    return f"hidden:{{{user}}}"
