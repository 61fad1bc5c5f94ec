"""Items as features see them (8): what is counted of each, and smoothed rates. No users here."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.features.priors import Rates
from models.features.whole import COUNT_MAX
from models.item_index import ItemIndex
from models.items import DERIVED
from models.tables import HOUR_MS
from models.verbs import Role

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

MINUTE_MS = 60_000
_WORDS = DERIVED.itemsize // 8
_COUNTS_AT = 2  # in 4-byte words: h1, h24, d7 follow the tick
_LONG_AT, _EXAMINED_AT = 9, 31  # in 8-byte words
_EPOCH_AT, _LAST_S_AT = 17, 29  # in 4-byte words
H1, H24, D7 = 0, 5, 10


class Items:
    """m items of the index by slot, `at` int64[m], in one hour: `hour` = as_of // 3,600,000."""

    def __init__(self, index: ItemIndex, at: I64, hour: int) -> None:
        self.index, self.at, self.hour = index, at, hour

    @cached_property
    def author(self) -> I32:
        """int32[m]: author numbers of the index, -1 = the slot is free."""
        return self.index.author.take(self.at)

    @cached_property
    def topic(self) -> I32:
        """int32[m]: the first topic's number, -1 = none."""
        topics: I32 = self.index.topics.take(self.at, axis=0)
        return topics[:, 0]

    @cached_property
    def _records(self) -> U64:
        """uint64[m, 32]: the derived records as words."""
        words = self.index.derived.view(np.uint64).reshape(-1, _WORDS)
        return words.take(self.at, axis=0)

    @cached_property
    def counts(self) -> F64:
        """float64[15, m] in 0..2^28: counts by (window, column); see `window`."""
        part = self._records.view(np.int32)[:, _COUNTS_AT : _COUNTS_AT + 15]
        counts = part.T.astype(np.float64, order="C")
        return np.clip(counts, 0, COUNT_MAX, out=counts)

    def window(self, window: int, role: int) -> F64:
        """float64[m]: counts in window H1, H24 or D7 by role (4: dwell seconds)."""
        plane: F64 = self.counts[window + role]
        return plane

    def trials(self, window: int) -> F64:
        """float64[m]: how often an item could have been acted on in a window."""
        counts = self.counts
        engaged = counts[window + Role.WEAK] + counts[window + Role.STRONG]
        engaged += counts[window + Role.NEGATIVE]
        trials: F64 = np.maximum(counts[window + Role.EXPOSURE], engaged, out=engaged)
        return trials

    @cached_property
    def examined(self) -> F64:
        """float64[m] in 0..2^34: impressions of 7 days, weighted by their places, units of 1/16."""
        examined = self._records.view(np.int64)[:, _EXAMINED_AT].astype(np.float64)
        return np.maximum(examined, 0.0, out=examined)

    def long(self, role: int) -> F64:
        """float64[m]: an item's long decay by role (below 2^53)."""
        return self._records.view(np.int64)[:, _LONG_AT + role].astype(np.float64)

    @cached_property
    def long_epoch(self) -> I64:
        """int64[m]: the epoch that `long` is as of."""
        return self._records.view(np.int32)[:, _EPOCH_AT].astype(np.int64)

    @cached_property
    def rates(self) -> Rates:
        """Smoothed rates."""
        return Rates(self)


class Moment:
    """m items of the index by slot, `at` int64[m], as of a time."""

    def __init__(self, index: ItemIndex, at: I64, as_of_ms: int) -> None:
        self.index, self.at, self.as_of_ms = index, at, as_of_ms

    @cached_property
    def created_ms(self) -> I64:
        """int64[m]."""
        return self.index.created_ms.take(self.at)

    @cached_property
    def last_s(self) -> NDArray[np.uint32]:
        """uint32[m]: the 5 minutes of the last engagement, 0 = never."""
        words = self.index.derived.view(np.uint32)
        return words.take(self.at * (2 * _WORDS) + _LAST_S_AT)

    @cached_property
    def age_minutes(self) -> F64:
        """float64[m] >= 0."""
        minutes = (self.as_of_ms - self.created_ms).astype(np.float64)
        minutes /= float(MINUTE_MS)
        np.floor(minutes, out=minutes)
        return np.maximum(minutes, 0.0, out=minutes)


def hour_of(as_of_ms: int) -> int:
    """Which hour a time falls into."""
    return as_of_ms // HOUR_MS
