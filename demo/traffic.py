"""What the simulated people do, session by session; time and randomness are given to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from demo.click_through import ClickThrough
from demo.clicks import Reaction, react
from demo.groups import GROUPS, SLATE_ITEMS, Slates, group_of
from demo.world import VISITOR, World, WorldItem

ZIPF_EXPONENT = 0.6
UNDO_SHARE = 0.02
RETRY_SHARE = 0.005
BROKEN_SHARE = 0.01
DRIFT_EVERY_SESSIONS = 400
HISTORY_POOL_ITEMS = 60


class Outbox(Protocol):
    """Where activities and items go. `activity` takes a record as the Avro schema names its fields."""

    def activity(self, record: Mapping[str, Any]) -> None:
        """Send one activity."""

    def broken(self, actor: str, time_ms: int) -> None:
        """Send something that is no activity."""

    def item(self, item: WorldItem) -> None:
        """Send one item."""


@dataclass(slots=True)
class Sent:
    """Records handed over, and how many of them the worker should find to be duplicates, undos or broken."""

    activities: int = 0
    retried: int = 0
    undos: int = 0
    broken: int = 0


@dataclass(slots=True)
class Traffic:
    """Sessions of the world's people: impressions, clicks, likes and so on.

    A few activities are sent twice (a client's retry), withdrawn (an undo) or broken, so that the ledger has
    something of each kind to account for. Activity ids begin with `run`.
    """

    world: World
    slates: Slates
    out: Outbox
    rng: np.random.Generator
    run: str
    through: dict[str, ClickThrough] = field(default_factory=lambda: {g: ClickThrough() for g in GROUPS})
    sent: Sent = field(default_factory=Sent)
    sessions: int = 0
    _weights: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        rank = self.rng.permutation(len(self.world.user_ids)) + 1.0
        weights = rank**-ZIPF_EXPONENT
        weights[0] = 0.0  # the visitor acts on their own
        self._weights = weights / weights.sum()

    def follow_all(self, now_ms: int) -> None:
        """The world's follows, as activities."""
        for user, author in self.world.follows():
            self._send(user, "follow", author, now_ms)

    def publish(self, now_ms: int) -> None:
        """A new item by someone."""
        self.out.item(self.world.publish(now_ms))

    def past_session(self, now_ms: int) -> None:
        """A session before feedrank was there: a slate drawn from what was new then, counted for no group."""
        user = self._someone()
        known = [item for item in self.world.items if item.created_ms <= now_ms][-HISTORY_POOL_ITEMS:]
        size = min(SLATE_ITEMS, len(known))
        slate = [known[int(k)] for k in self.rng.choice(len(known), size, replace=False)]
        for reaction in react(self.world, user, slate, now_ms, self.rng):
            self._react(self.world.user_ids[user], reaction, now_ms, None)

    def welcome(self, now_ms: int) -> None:
        """The visitor opens the feed for the first time and sees the newest items."""
        self._send(VISITOR, "visit", "feed", now_ms)
        for position, item in enumerate(reversed(self.world.items[-SLATE_ITEMS:])):
            self._send(VISITOR, "impression", item.item_id, now_ms, position=position)

    def session(self, now_ms: int) -> None:
        """One person opens the feed, looks at a slate and acts."""
        user = self._someone()
        self.sessions += 1
        if self.sessions % DRIFT_EVERY_SESSIONS == 0:
            self.world.drift()
        name = self.world.user_ids[user]
        slate, slate_id = self.slates.slate(user, now_ms)
        self._send(name, "visit", "feed", now_ms)
        for reaction in react(self.world, user, slate, now_ms, self.rng):
            self._count(name, reaction)
            self._react(name, reaction, now_ms, slate_id)
        if self.rng.random() < BROKEN_SHARE:
            self.out.broken(name, now_ms)
            self.sent.activities += 1
            self.sent.broken += 1

    def _someone(self) -> int:
        return int(self.rng.choice(len(self._weights), p=self._weights))

    def _count(self, name: str, reaction: Reaction) -> None:
        count = self.through[group_of(name)]
        if reaction.verb == "impression":
            count.shown(name)
        elif reaction.verb == "click":
            count.clicked(name)

    def _react(self, name: str, reaction: Reaction, now_ms: int, slate_id: str | None) -> None:
        if reaction.verb == "click":
            self.slates.clicked(reaction.item_id)
        extra: dict[str, Any] = {"position": reaction.position, "slate_id": slate_id}
        if reaction.dwell_ms:
            extra["dwell_ms"] = reaction.dwell_ms
        self._send(name, reaction.verb, reaction.item_id, now_ms, **extra)
        if reaction.verb == "like" and self.rng.random() < UNDO_SHARE:
            undone = {"undone_verb": "like", "undone_event_time": now_ms}
            self.sent.undos += 1
            self._send(name, "undo", reaction.item_id, now_ms, **undone)

    def _send(self, actor: str, verb: str, item: str, now_ms: int, **extra: Any) -> None:
        record = {
            "activity_id": f"{self.run}-{self.sent.activities}",
            "actor": actor,
            "verb": verb,
            "object": item,
            "event_time": now_ms,
            **extra,
        }
        self.out.activity(record)
        self.sent.activities += 1
        if self.rng.random() < RETRY_SHARE:
            self.out.activity(record)
            self.sent.activities += 1
            self.sent.retried += 1
