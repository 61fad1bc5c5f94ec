"""The features of a slice (8), as far as somebody asks: weighted sums, some of a few entries, or all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.features.definition import Of
from models.features.item_memo import ItemMemo
from models.features.items import Moment
from models.features.registry import FEATURES, Weights
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

    What many candidates share is weighed before it is spread over them: a sum over 45 features costs little
    more than one over the ten that only a user and an item together have.
    """

    def __init__(self, scene: Scene, memo: ItemMemo | None = None) -> None:
        self.scene = scene
        self._memo = memo or ItemMemo(scene.index)
        self._memo.prepare(scene.at, scene.as_of_ms)
        scene.items = self._memo
        self._shared: dict[int, F64] = {}
        self._pairs: dict[int, F64] = {}

    def weighted(self, weights: Weights) -> F64:
        """See Features."""
        scene, sums = self.scene, self._weighted_planes(weights)
        rows, matrix = weights.by(Of.USER)
        sums += (matrix @ self._stacked(rows, scene.shape[0]))[:, :, None]
        for out, kept in zip(sums, self._memo.sums(weights), strict=True):
            out += kept.take(scene.at)
        rows, matrix = weights.by(Of.AUTHOR)
        if len(rows):
            ties = scene.author_ties
            for out, values in zip(sums, matrix @ self._stacked(rows, len(ties.marks)), strict=True):
                out += values.take(ties.code)
        rows, matrix = weights.by(Of.TOPIC)
        if len(rows):
            cells = scene.topic_ties
            for out, values in zip(sums, matrix @ self._stacked(rows, len(cells.marks)), strict=True):
                out += over_topics(values.take(cells.cell))
        return sums

    def planes(self, out: F64 | None = None) -> F64:
        """See Features. `out`: memory to use, at least F * U * C float64 (a view of it is returned)."""
        size = len(FEATURES) * self.scene.item.size
        planes = np.empty(size) if out is None or out.size < size else out[:size]
        everywhere = np.arange(self.scene.item.size)
        planes = planes.reshape(len(FEATURES), -1)
        self._fill(planes, range(len(FEATURES)), everywhere)
        return planes.reshape(len(FEATURES), *self.scene.shape)

    def some(self, rows: I64, flat: I64) -> F64:
        """See Features."""
        out = np.empty((len(rows), len(flat)))
        self._fill(out, rows.tolist(), flat)
        return out

    def _weighted_planes(self, weights: Weights) -> F64:
        """float64[H, U, C]: the part of the features that nothing is shared of."""
        (rows, matrix), (moments, more) = weights.by(Of.PAIR), weights.by(Of.MOMENT)
        planes = np.empty((len(rows) + len(moments), *self.scene.shape))
        for row, plane in zip(rows.tolist(), planes, strict=False):
            self._pairs[row] = plane
            FEATURES[row].compute(self.scene, plane)
        flat = planes.reshape(len(planes), self.scene.item.size)
        moment = self._moment(None)
        for row, plane in zip(moments.tolist(), flat[len(rows) :], strict=True):
            FEATURES[row].compute(moment, plane)
        return (np.hstack([matrix, more]) @ flat).reshape(-1, *self.scene.shape)

    def _fill(self, out: F64, rows: Iterable[int], flat: I64) -> None:
        """Write features [R, n] of n candidates."""
        scene, moment = self.scene, self._moment(flat)
        at = scene.at.reshape(-1).take(flat)
        user = flat // scene.shape[1]
        for row, values in zip(rows, out, strict=True):
            match FEATURES[row].of:
                case Of.ITEM:
                    values[:] = self._memo.row(row, at)
                case Of.MOMENT:
                    FEATURES[row].compute(moment, values)
                case Of.USER:
                    self._once(row, scene, scene.shape[0]).take(user, out=values)
                case Of.AUTHOR:
                    ties = scene.author_ties
                    self._once(row, ties, len(ties.marks)).take(ties.code.reshape(-1).take(flat), out=values)
                case Of.TOPIC:
                    cells = scene.topic_ties
                    cell = cells.cell.reshape(scene.item.size, -1).take(flat, axis=0)
                    values[:] = over_topics(self._once(row, cells, len(cells.marks)).take(cell))
                case Of.PAIR:
                    self._pair(row).reshape(-1).take(flat, out=values)

    def _moment(self, flat: I64 | None) -> Moment:
        at = self.scene.at.reshape(-1)
        return Moment(self.scene.index, at if flat is None else at.take(flat), self.scene.as_of_ms)

    def _stacked(self, rows: I64, points: int) -> F64:
        """float64[R, points] of features that are of one thing that many candidates share."""
        source = {Of.USER: self.scene, Of.AUTHOR: self.scene.author_ties, Of.TOPIC: self.scene.topic_ties}
        out = np.empty((len(rows), points))
        for row, values in zip(rows.tolist(), out, strict=True):
            FEATURES[row].compute(source[FEATURES[row].of], values)
            self._shared[row] = values
        return out

    def _once(self, row: int, source: Scene | AuthorTies | TopicTies, points: int) -> F64:
        if row not in self._shared:
            FEATURES[row].compute(source, values := np.empty(points))
            self._shared[row] = values
        return self._shared[row]

    def _pair(self, row: int) -> F64:
        if row not in self._pairs:
            FEATURES[row].compute(self.scene, plane := np.empty(self.scene.shape))
            self._pairs[row] = plane
        return self._pairs[row]


def over_topics(values: F64) -> F64:
    """float64[...]: sums over the last axis, of an item's topics; whole numbers, so any order is exact."""
    sums: F64 = values @ np.ones(values.shape[-1])
    return sums
