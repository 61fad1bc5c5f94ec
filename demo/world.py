"""The demo's world: people with hidden tastes, authors, titled items and follows, all from one seed.

It knows nothing of how feedrank ranks: tastes, qualities and drift live here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VISITOR = "you"
DIMS = 32
TOPICS = (
    "jazz", "climbing", "sourdough", "astronomy", "chess", "gardening", "sailing", "ceramics", "cycling",
    "typography", "birds", "film", "robots", "history", "running", "coffee", "maps", "knitting", "physics",
    "street food", "podcasts", "woodwork", "languages", "photography",
)  # fmt: skip
OPENINGS = (
    "Ten minutes of", "What nobody tells you about", "A beginner's month of", "The quiet joy of", "Notes on",
    "Why I went back to", "Seven mistakes in", "An evening with", "The maths behind", "A field guide to",
)  # fmt: skip
CLOSINGS = (
    "on a budget", "after forty", "in the rain", "before breakfast", "with friends", "the hard way",
    "for two", "in winter", "from scratch", "without the hype",
)  # fmt: skip

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WorldItem:
    """One item and what is true of it. `mix` is float64[topics] and sums to 1; `quality` is in 0..1."""

    item_id: str
    author: str
    created_ms: int
    title: str
    topics: tuple[str, ...]
    mix: F64
    quality: float
    embedding: F64


class World:
    """Users `user-0`..., and `you`, who follows like all of them; authors; items, made on demand.

    `tastes` is float64[users, topics], rows sum to 1. All randomness comes from `seed`.
    """

    def __init__(self, seed: int, users: int = 600, authors: int = 120) -> None:
        self._rng = np.random.default_rng(seed)
        topics = len(TOPICS)
        self.user_ids = [VISITOR, *(f"user-{i}" for i in range(users - 1))]
        self.author_ids = [f"author-{i}" for i in range(authors)]
        self.tastes: F64 = self._rng.dirichlet(np.full(topics, 0.12), users)
        self.author_mix: F64 = self._rng.dirichlet(np.full(topics, 0.08), authors)
        self.author_quality: F64 = self._rng.beta(4, 4, authors)
        vectors = self._rng.normal(size=(topics, DIMS))
        self._topic_vectors: F64 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self.items: list[WorldItem] = []

    def item(self, item_id: str) -> WorldItem | None:
        """The item with this id; None when it is not of this world (a visitor may send any)."""
        number = item_id.removeprefix("item-")
        return self.items[int(number)] if number.isdecimal() and int(number) < len(self.items) else None

    def follows(self) -> list[tuple[str, str]]:
        """(user, author) edges at the start: people follow a few authors, mostly near their tastes."""
        edges = []
        match = self.tastes @ self.author_mix.T
        for u, user in enumerate(self.user_ids):
            n = int(self._rng.integers(2, 7))
            p = match[u] + 0.02
            chosen = self._rng.choice(len(self.author_ids), size=n, replace=False, p=p / p.sum())
            edges += [(user, self.author_ids[a]) for a in chosen]
        return edges

    def publish(self, created_ms: int) -> WorldItem:
        """A new item by a random author, created at `created_ms`."""
        a = int(self._rng.integers(len(self.author_ids)))
        mix = self._rng.dirichlet(self.author_mix[a] * 6 + 0.01)
        top = [int(t) for t in np.argsort(-mix)[:3] if mix[t] > 0.15] or [int(np.argmax(mix))]
        vector = mix @ self._topic_vectors + self._rng.normal(scale=0.08, size=DIMS)
        item = WorldItem(
            item_id=f"item-{len(self.items)}",
            author=self.author_ids[a],
            created_ms=created_ms,
            title=self._title(TOPICS[top[0]]),
            topics=tuple(TOPICS[t] for t in top),
            mix=mix,
            quality=float(np.clip(self.author_quality[a] + self._rng.normal(scale=0.15), 0.02, 0.98)),
            embedding=vector / np.linalg.norm(vector),
        )
        self.items.append(item)
        return item

    def _title(self, topic: str) -> str:
        opening = OPENINGS[int(self._rng.integers(len(OPENINGS)))]
        closing = CLOSINGS[int(self._rng.integers(len(CLOSINGS)))]
        return f"{opening} {topic} {closing}"

    def drift(self, share: float = 0.02, step: float = 0.3) -> None:
        """Tastes move: `share` of the users shift by `step` towards a fresh draw."""
        who = self._rng.random(len(self.tastes)) < share
        fresh = self._rng.dirichlet(np.full(len(TOPICS), 0.12), int(who.sum()))
        self.tastes[who] = (1 - step) * self.tastes[who] + step * fresh
