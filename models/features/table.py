"""The features of a slice (8), as far as somebody asks: weighted sums, some of a few entries, or all."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.features.definition import Of
from models.features.item_memo import ItemMemo
from models.features.items import Moment
from models.features.registry import FEATURES, KINDS, PLACES, ROWS, Weights
from models.features.scene import Scene
from models.features.ties import AuthorTies, TopicTies

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Features(Protocol):
    """All features of U users' C candidates, by FEATURES."""

    def weighted(self, weights: Weights) -> F64:
        """float64[H, U, C]: H weighted sums of all features; whole numbers below 2^53 are exact."""
        ...

    def planes(self) -> F64:
        """float64[F, U, C]: all of them."""
        ...

    def some(self, rows: I64, flat: I64) -> F64:
        """float64[R, n]: the features FEATURES[rows] of n candidates, by their places in [U * C]."""
        ...


class Planes:
    """Features that are there already: float64[F, U, C]."""

    def __init__(self, values: F64) -> None:
        self._values = values

    def weighted(self, weights: Weights) -> F64:
        """See Features."""
        sums = weights.matrix @ self._values.reshape(len(self._values), -1)
        return sums.reshape(-1, *self._values.shape[1:])

    def planes(self) -> F64:
        """See Features."""
        return self._values

    def some(self, rows: I64, flat: I64) -> F64:
        """See Features."""
        return self._values.reshape(len(self._values), -1)[rows[:, None], flat]


class SceneFeatures:
    """Features of a scene. `memo`: of its index, kept from slice to slice; without one all is worked out.

    What many candidates share is weighed before it is spread over them: a sum over all features costs little
    more than one over the ten that only a user and an item together have.
    """

    def __init__(self, scene: Scene, memo: ItemMemo | None = None) -> None:
        self.scene = scene
        self._memo = memo or ItemMemo(scene.index)
        self._memo.prepare(scene.at, scene.as_of_ms)
        scene.items = self._memo
        self._blocks: dict[Of, F64] = {}
        self._pairs: dict[int, F64] = {}

    def weighted(self, weights: Weights) -> F64:
        """See Features."""
        scene, sums = self.scene, self._weighted_planes(weights)
        sums += (weights.of(Of.USER) @ self._block(Of.USER))[:, :, None]
        for out, kept in zip(sums, self._memo.sums(weights), strict=True):
            out += kept.take(scene.at)
        if weights.of(Of.AUTHOR).any():
            for out, values in zip(sums, weights.of(Of.AUTHOR) @ self._block(Of.AUTHOR), strict=True):
                out += values.take(scene.author_ties.code)
        if weights.of(Of.TOPIC).any():
            for out, values in zip(sums, weights.of(Of.TOPIC) @ self._block(Of.TOPIC), strict=True):
                for cell in scene.topic_ties.cell:
                    out += values.take(cell)
        return sums

    def planes(self, out: F64 | None = None) -> F64:
        """See Features. `out`: memory to use, at least F * U * C float64 (a view of it is returned)."""
        size = len(FEATURES) * self.scene.item.size
        planes = np.empty(size) if out is None or out.size < size else out[:size]
        everywhere = np.arange(self.scene.item.size)
        planes = planes.reshape(len(FEATURES), -1)
        self._fill(planes, np.arange(len(FEATURES)), everywhere)
        return planes.reshape(len(FEATURES), *self.scene.shape)

    def some(self, rows: I64, flat: I64) -> F64:
        """See Features."""
        out = np.empty((len(rows), len(flat)))
        self._fill(out, rows, flat)
        return out

    def _weighted_planes(self, weights: Weights) -> F64:
        """float64[H, U, C]: the part of the features that nothing is shared of."""
        (rows, matrix), (moments, more) = weights.used(Of.PAIR), weights.used(Of.MOMENT)
        planes = np.empty((len(rows) + len(moments), *self.scene.shape))
        for row, plane in zip(rows.tolist(), planes, strict=False):
            self._pairs[row] = plane
            FEATURES[row].compute(self.scene, plane)
        flat = planes.reshape(len(planes), self.scene.item.size)
        moment = Moment(self.scene.index, self.scene.at.reshape(-1), self.scene.as_of_ms)
        moment.created_ms = self.scene.created_ms.reshape(-1)
        for row, plane in zip(moments.tolist(), flat[len(rows) :], strict=True):
            FEATURES[row].compute(moment, plane)
        return (np.hstack([matrix, more]) @ flat).reshape(-1, *self.scene.shape)

    def _fill(self, out: F64, rows: I64, flat: I64) -> None:
        """Write features [R, n] of n candidates."""
        scene, kinds, places = self.scene, KINDS.take(rows), PLACES.take(rows)
        at = scene.at.reshape(-1).take(flat)
        for kind, of in enumerate(Of):
            chosen = (kinds == kind).nonzero()[0]
            if not len(chosen):
                continue
            if of is Of.ITEM:
                out[chosen] = self._memo.rows(rows.take(chosen), at)
            elif of is Of.MOMENT:
                moment = Moment(scene.index, at, scene.as_of_ms)
                for place in chosen.tolist():
                    FEATURES[rows.item(place)].compute(moment, out[place])
            elif of is Of.PAIR:
                for place in chosen.tolist():
                    out[place] = self._pair(rows.item(place)).reshape(-1).take(flat)
            else:
                out[chosen] = self._shared(of, places.take(chosen), flat)

    def _shared(self, of: Of, places: I64, flat: I64) -> F64:
        """float64[k, n] of n candidates: features of users, authors or topics, by places in the kind."""
        scene, values = self.scene, self._block(of).take(places, axis=0)
        if of is Of.USER:
            return values.take(flat // scene.shape[1], axis=1)
        if of is Of.AUTHOR:
            return values.take(scene.author_ties.code.reshape(-1).take(flat), axis=1)
        cells = scene.topic_ties.cell.reshape(-1, scene.item.size).take(flat, axis=1)
        found: F64 = values.take(cells[0], axis=1)
        for more in cells[1:]:
            found += values.take(more, axis=1)
        return found

    def _block(self, of: Of) -> F64:
        """float64[k, points]: the kind's features by user, by author code or by topic cell."""
        if of not in self._blocks:
            source: Scene | AuthorTies | TopicTies = self.scene
            points = self.scene.shape[0]
            if of is not Of.USER:
                source = self.scene.author_ties if of is Of.AUTHOR else self.scene.topic_ties
                points = len(source.marks)
            block = self._blocks[of] = np.empty((len(ROWS[of]), points))
            for row, values in zip(ROWS[of].tolist(), block, strict=True):
                FEATURES[row].compute(source, values)
        return self._blocks[of]

    def _pair(self, row: int) -> F64:
        if row not in self._pairs:
            FEATURES[row].compute(self.scene, plane := np.empty(self.scene.shape))
            self._pairs[row] = plane
        return self._pairs[row]
