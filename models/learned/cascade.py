"""Light on all, heavy on the best (9): a cheap model chooses what a costly one puts in order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features import FEATURES, Features, Planes, SceneFeatures
from models.learned.scorers import Linear, Trees, worth
from models.score import SCORE_MAX, RateLift

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_EVERY = np.arange(len(FEATURES))


class Cascade:
    """`light` scores all candidates, `heavy` those `count` of each user that light likes best.

    Whatever heavy saw stands before the rest, which keep light's order: their scores are moved below. The
    choice is each user's own, so it does not depend on who is ranked together.
    """

    def __init__(self, light: RateLift | Linear | Trees, heavy: Linear | Trees, count: int) -> None:
        if count < 1:
            raise ValueError(f"the heavy model would score {count} candidates; give it at least 1")
        self.light, self.heavy, self.count = light, heavy, count
        self.name = f"{light.name}+{heavy.name}"
        self.exact = light.exact and heavy.exact

    def score(self, features: Features) -> F64:
        """See models.score.Scorer."""
        score = self.light.score(features)
        best = self._best(score, _real(features, score.shape))
        flat = np.flatnonzero(best)
        if not len(flat):
            return score
        seen = features.some(_EVERY, flat)
        if isinstance(self.heavy, Trees):
            found = worth(self.heavy.of_rows(seen), self.heavy.values)
        else:
            found = self.heavy.score(Planes(seen[:, None]))[0]
        return _below(score, best, found)

    def chosen(self, features: Features) -> Bools:
        """bool[U, C]: what heavy scores."""
        score = self.light.score(features)
        return self._best(score, _real(features, score.shape))

    def _best(self, score: F64, real: Bools) -> Bools:
        """bool[U, C]: the first `count` of each user by score, then place."""
        order = np.argsort(np.where(real, -score, np.inf), axis=1, kind="stable")[:, : self.count]
        best = np.zeros(score.shape, np.bool_)
        np.put_along_axis(best, order, True, axis=1)
        chosen: Bools = best & real
        return chosen


def _real(features: Features, shape: tuple[int, ...]) -> Bools:
    """Which places hold candidates: a slice's scene knows its padding, plain features have none."""
    if isinstance(features, SceneFeatures):
        return features.scene.real
    return np.ones(shape, np.bool_)


def _below(score: F64, best: Bools, found: F64) -> F64:
    """Heavy scores where `best`; the others moved down by whole numbers where one of them stood too high."""
    out = score.copy()
    out[best] = found
    worst = np.where(best, out, np.inf).min(axis=1, keepdims=True)
    highest = np.where(best, -np.inf, out).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        over = np.where(np.isfinite(worst) & np.isfinite(highest), highest - worst + 1.0, 0.0)
    out -= np.where(best, 0.0, np.maximum(over, 0.0))
    return np.clip(out, -SCORE_MAX, SCORE_MAX, out=out)
