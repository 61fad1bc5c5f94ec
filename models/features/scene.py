"""The scene of a slice (8, 10): everything that features and rules read, gathered once per batch.

Arrays are [U, C] (users, candidates) or [n, U, C], C-contiguous. Where a user has fewer candidates, places
hold the item in slot 0; `real` says so.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.candidates import Candidates
from models.context import UserBatch
from models.features.interests import Interests
from models.features.pairs import Pairs, pair_keys
from models.features.priors import Rates
from models.features.whole import COUNT_MAX, floor_div
from models.fingerprint import FP32, FP48
from models.graph import KIND_AUTHOR
from models.item_index import ItemIndex
from models.items import DERIVED, ENGAGERS
from models.order import ties
from models.tables import GRID
from models.user_row import D1
from models.verbs import Role, VerbTable

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

DAY_MS = 86_400_000
MINUTE_MS = 60_000
_USER_AND_FP32 = np.uint64(0xFFFF0000FFFFFFFF)
_WORDS = DERIVED.itemsize // 8
_COUNTS_AT = 2  # in 4-byte words: h1, h24, d7 follow the tick
_LONG_AT, _ENGAGERS_AT = 9, 15  # in 8-byte words
_EPOCH_AT, _LAST_S_AT = 17, 29  # in 4-byte words
H1, H24, D7 = 0, 5, 10


class Scene:
    """U users and their candidates as of a time."""

    def __init__(
        self,
        users: UserBatch,
        candidates: Candidates,
        index: ItemIndex,
        verbs: VerbTable,
        as_of_ms: int,
    ) -> None:
        self.users, self.index, self.verbs, self.as_of_ms = users, index, verbs, as_of_ms
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
        """int32[4, U, C]: topic numbers of the index, -1 = none."""
        return np.ascontiguousarray(np.moveaxis(self.index.topics.take(self.at, axis=0), 2, 0))

    @cached_property
    def author_pair(self) -> U64:
        """uint64[U, C]: (user, fp48 of the author) as pairs."""
        return pair_keys(self.shape[0], self.index.author_fp.take(self.author) & FP48)

    @cached_property
    def item_pair(self) -> U64:
        """uint64[U, C]: (user, fp32 of the item) as pairs."""
        return pair_keys(self.shape[0], self.fp & FP32)

    @cached_property
    def records(self) -> U64:
        """uint64[U * C, 31]: the derived records as words."""
        words = self.index.derived.view(np.uint64).reshape(-1, _WORDS)
        return words.take(self.at.ravel(), axis=0)

    @cached_property
    def counts(self) -> F64:
        """float64[15, U, C] in 0..2^28: counts by (window, column); see `window`."""
        part = self.records.view(np.int32)[:, _COUNTS_AT : _COUNTS_AT + 15]
        counts = part.T.astype(np.float64, order="C")
        np.clip(counts, 0, COUNT_MAX, out=counts)
        return counts.reshape(15, *self.shape)

    def window(self, window: int, role: int) -> F64:
        """float64[U, C]: counts of an item in window H1, H24 or D7 by role (4: dwell seconds)."""
        plane: F64 = self.counts[window + role]
        return plane

    def trials(self, window: int) -> F64:
        """float64[U, C]: how often an item could have been acted on in a window."""
        counts = self.counts
        engaged = counts[window + Role.WEAK] + counts[window + Role.STRONG]
        engaged += counts[window + Role.NEGATIVE]
        trials: F64 = np.maximum(counts[window + Role.EXPOSURE], engaged, out=engaged)
        return trials

    def long(self, role: int) -> F64:
        """float64[U, C]: an item's long decay by role (below 2^53)."""
        column = self.records.view(np.int64)[:, _LONG_AT + role]
        return column.astype(np.float64).reshape(self.shape)

    @cached_property
    def long_epoch(self) -> I64:
        """int64[U, C]: the epoch that `long` is as of."""
        return self.records.view(np.int32)[:, _EPOCH_AT].astype(np.int64).reshape(self.shape)

    @cached_property
    def last_s(self) -> NDArray[np.uint32]:
        """uint32[U * C]: the 5 minutes of the last engagement, 0 = never."""
        return self.records.view(np.uint32)[:, _LAST_S_AT]

    @cached_property
    def engagers(self) -> U64:
        """uint64[U * C, 16]: edges `fp48 << 16 | day` of strong engagers, newest first, 0 = none (a view)."""
        return self.records[:, _ENGAGERS_AT : _ENGAGERS_AT + ENGAGERS]

    @cached_property
    def tie(self) -> I64:
        """int64[U, C]: what decides between equal scores."""
        return ties(self.fp)

    @cached_property
    def interests(self) -> Interests:
        """What the users like."""
        return Interests(self)

    @cached_property
    def rates(self) -> Rates:
        """Smoothed rates of the items."""
        return Rates(self)

    @cached_property
    def author_interest(self) -> tuple[I64, I64]:
        """Flat places of candidates whose author has a weight, and which of `interests.authors`."""
        return self.interests.authors[0].find(self.author_pair & _USER_AND_FP32)

    @cached_property
    def cosines(self) -> F64:
        """float64[2, U, C]: cosines with both directions, floor(4096 * dot / sqrt(|q|^2 |e|^2)).

        The dot product and both squares are whole numbers below 2^24, exact in float32 in any order.
        """
        items = self.index.embedding.take(self.at.ravel(), axis=0).reshape(*self.shape, -1)
        asked = np.stack([self.interests.long_direction, self.interests.short_direction], axis=2)
        dots = np.moveaxis(np.matmul(items.astype(np.float32), asked), 2, 0).astype(np.float64, order="C")
        sizes = (asked.astype(np.float64) ** 2).sum(axis=1).T
        norms = sizes[:, :, None] * self.index.embedding_square.take(self.at)
        np.sqrt(norms, out=norms)
        np.maximum(norms, 1.0, out=norms)
        dots *= GRID
        return floor_div(dots, norms, out=dots)

    @cached_property
    def age_minutes(self) -> F64:
        """float64[U, C] >= 0."""
        minutes = floor_div((self.as_of_ms - self.created_ms).astype(np.float64), float(MINUTE_MS))
        return np.maximum(minutes, 0.0)

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
    def follows(self) -> Pairs:
        """(user, fp48 of a followed author)."""
        return Pairs.of([edges >> np.uint64(16) for edges in self.followed_edges])

    @cached_property
    def followed_edges(self) -> list[U64]:
        """Per user the edges `fp48 << 16 | day` to followed authors."""
        rows = self.users.graph
        return [r.follows[r.follow_kinds == KIND_AUTHOR] if r.follow_kinds.any() else r.follows for r in rows]

    @cached_property
    def followed(self) -> Bools:
        """bool[U, C]: the user follows the author."""
        found = np.zeros(self.shape, np.bool_)
        found.reshape(-1)[self.follows.find(self.author_pair)[0]] = True
        return found

    @cached_property
    def seen_times(self) -> F64:
        """float64[U, C]: how often the item was shown to the user, as far as the seen pages go."""
        return self._seen[0]

    @cached_property
    def seen_days(self) -> F64:
        """float64[U, C]: days since the item was last shown; 0 where it never was."""
        return self._seen[1]

    @cached_property
    def _seen(self) -> tuple[F64, F64]:
        times, days = np.zeros(self.shape), np.zeros(self.shape)
        place, which = Pairs.of([e >> np.uint64(32) for e in self.users.seen]).find(self.item_pair)
        if len(place):
            hit = np.concatenate(self.users.seen).take(which).astype(np.int64)
            shown = hit & 0xFFFF
            since = np.maximum(self.as_of_ms // DAY_MS - ((hit >> 16) & 0xFFFF), 0)
            times.reshape(-1)[place] = shown
            days.reshape(-1)[place] = np.where(shown > 0, since, 0)
        return times, days
