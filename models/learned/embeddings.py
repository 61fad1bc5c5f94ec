"""Vectors of items (2, 7): from co-engagement to directions that can be compared, kept from one training to
the next, and searched.

A training's axes are arbitrary: users' interests are sums of item vectors, so a new training is turned onto
the one before (`aligned`), or everyone's interests would point nowhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

CHUNK_ITEMS = 1_024


def unit(vectors: F64) -> F64:
    """float64[n, d] of length 1; zeros stay zeros."""
    length = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    found: F64 = vectors / np.where(length > 0, length, 1.0)
    return found


def signed(vectors: F64) -> F64:
    """float64[n, d]: each axis turned so that its largest component is positive: a factorisation leaves the
    sign to chance."""
    if not len(vectors):
        return vectors
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    found: F64 = vectors * np.where(largest < 0, -1.0, 1.0)
    return found


def aligned(vectors: F64, onto: F64, pairs: tuple[I64, I64]) -> F64:
    """float64[n, d]: `vectors` turned (no stretching) so that rows pairs[0] come closest to rows pairs[1] of
    `onto`. Schoenemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 31, 1966.
    """
    if not len(pairs[0]):
        return vectors
    u, _, v = np.linalg.svd(vectors[pairs[0]].T @ onto[pairs[1]])
    found: F64 = vectors @ (u @ v)
    return found


def similar(vectors: F64, rows: I64, k: int) -> tuple[I64, F64]:
    """int64[m, k] and float64[m, k]: for each of `rows`, the rows with the greatest cosine besides itself,
    greatest first, equal ones by row; -1 and nan where there are fewer. `vectors` float64[n, d] of length 1.
    """
    width = min(k, max(len(vectors) - 1, 0))
    found, cosines = np.full((len(rows), k), -1), np.full((len(rows), k), np.nan)
    for start in range(0, len(rows), CHUNK_ITEMS):
        some = rows[start : start + CHUNK_ITEMS]
        dots = vectors[some] @ vectors.T
        dots[np.arange(len(some)), some] = -np.inf
        best = np.argsort(-dots, axis=1, kind="stable")[:, :width]
        found[start : start + len(some), :width] = best
        cosines[start : start + len(some), :width] = np.take_along_axis(dots, best, axis=1)
    return found, cosines


def recall(scores: F64, known: NDArray[np.bool_], wanted: NDArray[np.bool_], k: int) -> F64:
    """float64[m]: share of each row's `wanted` items (bool[m, n]) among the k best by `scores` float64[m, n]
    that are not `known` to it; nan where nothing is wanted."""
    ranked = np.argsort(-np.where(known, -np.inf, scores), axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(wanted & ~known, ranked, axis=1).sum(axis=1)
    total = (wanted & ~known).sum(axis=1)
    return np.where(total > 0, hits / np.maximum(total, 1), np.nan)
