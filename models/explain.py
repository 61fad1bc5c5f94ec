"""Why an item is in a feed (10), in at most three short sentences: its source and what lifted it most.

What lifts is said by the model that ranks: the policy's weights for the default model, its own weights for a
linear one, SHAP values for trees (Lundberg et al., Nature Machine Intelligence 2, 2020), which are dear and
so only for as many entries as the policy says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.candidates import SOURCE_NAMES
from models.features import FEATURE_NAMES, FEATURES
from models.policy import Policy
from models.tables import GRID
from models.verbs import Role

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LIFT_MIN = GRID * GRID // 4
"""A quarter of a doubling: less is not worth a word."""

ROWS_MAX = 64
"""Features that have words; a lift, below 2^41 in size, times this is exact."""

EXPLORED = "shown to find out whether you like it"
SOURCE_WHY = {
    "in_network": "you follow the author",
    "embedding": "close to your interests",
    "item_to_item": "people who like what you like engaged with it",
    "social_proof": "people you follow engaged with it",
    "trending": "trending",
    "topic_trending": "trending in one of your topics",
    "explore": "new",
}
_FIRST_BIT = np.array([next((b for b in range(16) if m >> b & 1), 0) for m in range(1 << len(SOURCE_NAMES))])


def lift_of(policy: Policy) -> F64:
    """float64[F]: the default model's weights of weak and strong, summed, grid integers."""
    weights = np.zeros(len(FEATURES))
    for head in (Role.WEAK, Role.STRONG):
        for name, weight in policy.weights[head].items():
            weights[FEATURE_NAMES.index(name)] += weight
    return weights


class Explainer:
    """Reasons by code; there are few, so that readers can keep what they make of each. `lift` float64[F]:
    doublings that one unit of each feature is worth, grid integers below 2^19."""

    def __init__(self, lift: F64) -> None:
        self._texts: dict[int, tuple[str, ...]] = {}
        told = [(row, lift[row], f) for row, f in enumerate(FEATURES) if f.reason and lift[row]]
        self.rows = np.array([row for row, _, _ in told], np.int64)
        weight = np.array([weight for _, weight, _ in told], np.float64)[:, None]
        usual = np.array([f.reason.usual for _, _, f in told if f.reason], np.float64)[:, None]
        self._per_feature = weight * ROWS_MAX
        self._offset = _earlier(len(told)) - usual * weight * ROWS_MAX
        self._words = ["", *(f.reason.words for _, _, f in told if f.reason)]

    @cached_property
    def _base(self) -> int:
        return len(self._words)

    def codes(
        self,
        sources: NDArray[np.uint16],
        explored: NDArray[np.bool_],
        features: F64,
        feeds: Sequence[slice] = (),
    ) -> I64:
        """int64[n] of n entries: their masks of sources, which were explored, and float64[R, n] of the
        features in `rows`. `feeds`: which entries are one feed's."""
        source = np.where(explored, len(SOURCE_NAMES), first_source(sources))
        if not len(self.rows):
            return source * self._base * self._base
        keys = self._keys(features, feeds)
        first = self._strongest(keys)
        keys[np.maximum(first - 1, 0), np.arange(len(source))] = 0.0
        return (source * self._base + first) * self._base + self._strongest(keys)

    def _keys(self, features: F64, feeds: Sequence[slice]) -> F64:
        """float64[R, n]: the lift and then the earlier feature, in one whole number below 2^53."""
        keys = features * self._per_feature
        keys += self._offset
        return keys

    def code_of_source(self, source: int) -> int:
        """The code of an item that only its source explains."""
        return source * self._base * self._base

    def texts(self, code: int) -> tuple[str, ...]:
        """The sentences of a code."""
        found = self._texts.get(code)
        if found is None:
            source, lifts = divmod(code, self._base * self._base)
            first, second = divmod(lifts, self._base)
            why = EXPLORED if source == len(SOURCE_NAMES) else SOURCE_WHY[SOURCE_NAMES[source]]
            sentences = (why, self._words[first], self._words[second])
            found = self._texts[code] = tuple(dict.fromkeys(s for s in sentences if s))
        return found

    @staticmethod
    def _strongest(keys: F64) -> I64:
        """int64[n]: 1 + the row of each column's greatest lift, 0 where that is too small."""
        best = keys.max(axis=0)
        best *= best >= LIFT_MIN * ROWS_MAX
        place: I64 = best.astype(np.int64) & (ROWS_MAX - 1)
        return np.where(best > 0, ROWS_MAX - place, 0)


class ShapExplainer(Explainer):
    """Reasons of the first `entries` of each feed by a model's own contributions: `contributions` makes
    float64[F, n] (doublings) of float64[F, n] features. They are relative to what is usual in the data that
    it learned from."""

    def __init__(self, contributions: Callable[[F64], F64], entries: int) -> None:
        super().__init__(np.ones(len(FEATURES)))
        self._entries = entries
        self._told, self.rows = self.rows, np.arange(len(FEATURES))
        self._contributions = contributions

    def _keys(self, features: F64, feeds: Sequence[slice]) -> F64:
        keys = np.zeros((len(self._told), features.shape[1]))
        first = [np.arange(one.start, min(one.stop, one.start + self._entries)) for one in feeds]
        at = np.concatenate(first) if first else np.empty(0, np.int64)
        if len(at):
            lifts = np.floor(self._contributions(features[:, at])[self._told] * GRID * GRID)
            keys[:, at] = lifts * ROWS_MAX + _earlier(len(self._told))
        return keys


def _earlier(count: int) -> NDArray[np.int64]:
    """int64[count, 1]: larger for earlier rows, below ROWS_MAX."""
    return ROWS_MAX - 1 - np.arange(count)[:, None]


def first_source(sources: NDArray[np.uint16]) -> I64:
    """int64[n]: the lowest bit in each mask of sources."""
    return _FIRST_BIT.take(sources)
