"""Four groups of people, assigned by hash, so that the demo can say what ranking is worth.

`ranked` reads its feed from Redis like any reader. `chronological` sees the newest items, `popular` the items
with the most clicks of the last minutes, `oracle` the items that the hidden click model likes best: no
ranker can beat it. All four act by the same click model, and none sees an item again soon.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from demo.clicks import appeal
from demo.world import VISITOR, World, WorldItem

GROUPS = ("ranked", "chronological", "popular", "oracle")
SLATE_ITEMS = 10
POPULAR_CLICKS_KEPT = 20_000
RECENT_ITEMS = 400
SHOWN_KEPT = 100


def group_of(user: str) -> str:
    """The group that the hash of the user's id puts it into; the visitor is always ranked."""
    if user == VISITOR:
        return "ranked"
    return GROUPS[hashlib.blake2b(user.encode(), digest_size=2).digest()[0] % len(GROUPS)]


@dataclass(slots=True)
class Slates:
    """Makes each group's slate. `read` returns (item ids, slate id) of a user's feed as served."""

    world: World
    read: Callable[[str], tuple[list[str], str | None]]
    _shown: dict[int, deque[str]] = field(default_factory=dict)
    _clicks: deque[str] = field(default_factory=lambda: deque(maxlen=POPULAR_CLICKS_KEPT))
    _popular: Counter[str] = field(default_factory=Counter)

    def clicked(self, item_id: str) -> None:
        """A click of anyone counts for `popular`."""
        if len(self._clicks) == POPULAR_CLICKS_KEPT:
            self._popular[self._clicks[0]] -= 1
        self._clicks.append(item_id)
        self._popular[item_id] += 1

    def slate(self, user: int, now_ms: int) -> tuple[list[WorldItem], str | None]:
        """Up to 10 items for the user, and the slate id where Redis served it."""
        name = self.world.user_ids[user]
        group = group_of(name)
        if group == "ranked":
            ids, slate_id = self.read(name)
            found = [self.world.item(i) for i in ids[:SLATE_ITEMS]]
            return [item for item in found if item is not None], slate_id
        seen = self._shown.setdefault(user, deque(maxlen=SHOWN_KEPT))
        fresh = [i for i in self.world.items[-RECENT_ITEMS:] if i.item_id not in seen]
        chosen = self._choose(group, user, fresh, now_ms)
        seen.extend(i.item_id for i in chosen)
        return chosen, None

    def _choose(self, group: str, user: int, items: Sequence[WorldItem], now_ms: int) -> list[WorldItem]:
        if group == "chronological" or not items:
            return list(reversed(items[-SLATE_ITEMS:]))
        if group == "popular":
            return sorted(items, key=lambda i: -self._popular[i.item_id])[:SLATE_ITEMS]
        best = np.argsort(-appeal(self.world, user, items, now_ms), kind="stable")
        return [items[int(k)] for k in best[:SLATE_ITEMS]]
