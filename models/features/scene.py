"""The scene of a slice (8, 10): what features and rules read of users and candidates, gathered once.

Arrays are [U, C] (users, candidates), C-contiguous. Where a user has fewer candidates, places hold the item
in slot 0; `real` says so.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.candidates import Candidates
from models.context import UserBatch
from models.features.interests import Interests
from models.features.pairs import Asked, Pairs, asked
from models.features.priors import Totals
from models.features.ties import FOLLOWED, AuthorTies, TopicTies
from models.features.whole import floor_div
from models.fingerprint import FP32
from models.item_index import ItemIndex
from models.lookups import Lookups
from models.order import ties
from models.tables import GRID
from models.user_row import D1
from models.verbs import VerbTable

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

DAY_MS = 86_400_000


class ItemValues(Protocol):
    """Features of items alone, by slot (models.features.item_memo)."""

    def plane(self, name: str, at: I64) -> F64:
        """float64 in the shape of `at`: one feature of items."""
        ...


class Seen(NamedTuple):
    """k candidates that were shown, by flat places int64[k] in [U * C]: `times` int64[k], as far as the seen
    pages go, and `days` int64[k] since the last time."""

    place: I64
    times: I64
    days: I64


class Scene:
    """U users and their candidates as of a time.

    `lookups`: of the users, where there are some already. `items`: set by whoever computes features.
    """

    items: ItemValues

    def __init__(
        self,
        users: UserBatch,
        candidates: Candidates,
        index: ItemIndex,
        verbs: VerbTable,
        as_of_ms: int,
        lookups: Lookups | None = None,
    ) -> None:
        self.users, self.index, self.verbs, self.as_of_ms = users, index, verbs, as_of_ms
        self.lookups = lookups or Lookups(users, index)
        self.item, self.sources = candidates.item, candidates.sources
        self.shape: tuple[int, int] = candidates.item.shape[0], candidates.item.shape[1]
        self.real: Bools = candidates.item >= 0
        self.at: I64 = np.maximum(candidates.item, 0).astype(np.int64)

    @cached_property
    def fp(self) -> U64:
        """uint64[U, C]: fingerprints of the items."""
        return self.index.fp.take(self.at)

    @cached_property
    def created_ms(self) -> I64:
        """int64[U, C]."""
        return self.index.created_ms.take(self.at)

    @cached_property
    def author(self) -> I32:
        """int32[U, C]: author numbers of the index."""
        return self.index.author.take(self.at)

    @cached_property
    def topics(self) -> I32:
        """int32[k <= 4, U, C]: topic numbers of the index, -1 = none; no item has more than k."""
        topics = np.empty((self.index.topics_most, *self.shape), np.int32)
        flat, at = self.index.topics.reshape(-1), self.at * self.index.topics.shape[1]
        for place, plane in enumerate(topics):
            flat.take(at + place, out=plane, mode="clip")  # clip: without a copy of `out`
        return topics

    @cached_property
    def asked(self) -> Asked:
        """(user, fp32 of the item) of all candidates."""
        return asked(np.arange(self.shape[0])[:, None], self.fp & FP32)

    @cached_property
    def tie(self) -> I64:
        """int64[U, C]: what decides between equal scores."""
        return ties(self.fp)

    @cached_property
    def interests(self) -> Interests:
        """What the users like."""
        return Interests(self)

    @cached_property
    def author_ties(self) -> AuthorTies:
        """What the users have to do with the candidates' authors."""
        return AuthorTies(self)

    @cached_property
    def author_marks(self) -> NDArray[np.uint8]:
        """uint8[U, C]: bits of what the user is to the author (models.features.ties)."""
        return self.author_ties.marks.take(self.author_ties.code)

    @cached_property
    def topic_ties(self) -> TopicTies:
        """What the users have to do with the candidates' topics."""
        return TopicTies(self)

    @cached_property
    def topic_marks(self) -> NDArray[np.uint8]:
        """uint8[k <= 4, U, C]: likewise of each topic."""
        return self.topic_ties.marks.take(self.topic_ties.cell)

    @cached_property
    def totals(self) -> Totals:
        """What is expected of any item."""
        return Totals(self.index)

    @cached_property
    def cosines(self) -> F64:
        """float64[2, U, C]: cosines with both directions, floor(4096 * dot / sqrt(|q|^2 |e|^2)).

        The dot product and both squares are whole numbers below 2^24, exact in float32 in any order.
        """
        embedding = self.index.embedding
        asked = np.stack([self.interests.long_direction, self.interests.short_direction])
        found = np.empty((2, *self.shape), np.float32)
        vectors = np.empty((self.shape[1], embedding.shape[1]), np.float32)
        for user in range(self.shape[0]):  # one at a time stays in the processor's cache
            np.copyto(vectors, embedding.take(self.at[user], axis=0))
            np.dot(vectors, asked[0, user], out=found[0, user])
            np.dot(vectors, asked[1, user], out=found[1, user])
        sizes = np.vecdot(asked, asked).astype(np.float64)
        norms = sizes[:, :, None] * self.index.embedding_square.take(self.at)
        np.sqrt(norms, out=norms)
        np.maximum(norms, 1.0, out=norms)
        dots = np.multiply(found, float(GRID), dtype=np.float64)
        return floor_div(dots, norms, out=dots)

    @cached_property
    def user_week(self) -> F64:
        """float64[5, U] >= 0: the user's own counts of the last 7 days by role."""
        rows = self.users.rows
        today = np.full(len(rows), self.as_of_ms // DAY_MS)
        days = D1.masked(rows, rows["newest_ms"] // DAY_MS, today, D1.kept)
        sums = days.sum(axis=1, dtype=np.int64).T.astype(np.float64, order="C")
        week: F64 = np.maximum(sums, 0.0, out=sums)
        return week

    @cached_property
    def followed(self) -> Bools:
        """bool[U, C]: the user follows the author."""
        return (self.author_marks & np.uint8(FOLLOWED)).view(np.bool_)

    @cached_property
    def seen(self) -> Seen:
        """Which candidates were shown to their users."""
        place, which = Pairs.of(self.users.seen, 32).find(self.asked)
        hit = np.concatenate(self.users.seen).take(which).astype(np.int64)
        times = hit & 0xFFFF
        since = np.maximum(self.as_of_ms // DAY_MS - ((hit >> 16) & 0xFFFF), 0)
        return Seen(place, times, since)
