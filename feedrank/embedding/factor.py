"""From engagements to vectors: a truncated SVD of how much more often two items share people than by chance.

Levy and Goldberg, Neural word embedding as implicit matrix factorization, NeurIPS 2014: positive pointwise
mutual information, its singular vectors scaled by the roots of the singular values. By scipy's sparse
matrices and ARPACK.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedrank.embedding.engagements import Engagements
from models.item_columns import EMBEDDING_DIM
from models.learned.embeddings import recall, signed, unit
from streams.errors import ExitCode, OperatorError

F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]

USERS_MIN = 3
"""People who must share an item before it gets a vector: fewer say more of themselves than of the item."""
ITEMS_MIN = 8
HELD_OUT = 0.2
"""Share of the time, at its end, that is predicted from what came before, to say what vectors are worth."""
RECALL_K = 20
JUDGED_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Vectors:
    """`vectors` float64[n, 64] of length 1 of the items `fp` uint64[n], ascending."""

    fp: U64
    vectors: F64

    def __len__(self) -> int:
        return len(self.fp)


def _scipy() -> Any:
    try:
        import scipy.sparse
        import scipy.sparse.linalg
    except ImportError as error:
        raise OperatorError("embeddings need scipy; in the checkout: pip install -e '.[train]'") from error
    return scipy.sparse


def learned(found: Engagements, seed: int) -> Vectors:
    """Vectors of all items that enough people share. Raises OperatorError where too few are."""
    fps, item = np.unique(found.fp, return_inverse=True)
    kept = np.bincount(item, minlength=len(fps)) >= USERS_MIN
    if int(kept.sum()) < ITEMS_MIN:
        raise OperatorError(
            f"{int(kept.sum())} items were engaged with by {USERS_MIN} people or more, {ITEMS_MIN} are "
            "needed; collect more: a longer time, or more users",
            ExitCode.BAD_INPUT,
        )
    number = np.cumsum(kept) - 1
    some = kept[item]
    matrix = _shared(found.user[some], number[item[some]], int(kept.sum()))
    return Vectors(fps[kept], _factors(matrix, seed))


def _shared(user: NDArray[np.int64], item: NDArray[np.int64], items: int) -> Any:
    """Positive pointwise mutual information of items by the people that they share: sparse [n, n]."""
    sparse = _scipy()
    ones = np.ones(len(user))
    by_user = sparse.csr_array((ones, (user, item)), shape=(int(user.max()) + 1, items))
    both = (by_user.T @ by_user).tocsr()
    both.setdiag(0)
    both.eliminate_zeros()
    both = both.tocoo()
    alone = np.asarray(both.sum(axis=0)).reshape(-1)
    chance = alone[both.row] * alone[both.col] / max(float(alone.sum()), 1.0)
    more = np.maximum(np.log(both.data / np.maximum(chance, 1e-300)), 0.0)
    return sparse.csr_array((more, (both.row, both.col)), shape=(items, items))


def _factors(matrix: Any, seed: int) -> F64:
    """float64[n, 64] of length 1: the same matrix and seed give the same."""
    sparse, items = _scipy(), matrix.shape[0]
    rank = min(EMBEDDING_DIM, items - 2)
    start = np.random.default_rng(seed).normal(size=items)
    left, size, _ = sparse.linalg.svds(matrix, k=rank, v0=start, solver="arpack")
    order = np.argsort(-size, kind="stable")
    vectors = np.zeros((items, EMBEDDING_DIM))
    vectors[:, :rank] = left[:, order] * np.sqrt(np.maximum(size[order], 0.0))
    return unit(signed(vectors))


def judged(found: Engagements, seed: int) -> dict[str, float]:
    """Recall@20 of what people engaged with later, by vectors of what came before and by popularity, over
    people of both times; {} where there is too little."""
    if not len(found):
        return {}
    first, last = int(found.time_ms.min()), int(found.time_ms.max())
    border = last - int((last - first) * HELD_OUT)
    earlier, later = found.where(found.time_ms < border), found.where(found.time_ms >= border)
    try:
        model = learned(earlier, seed)
    except OperatorError:
        return {}
    people = np.intersect1d(np.unique(earlier.user), np.unique(later.user))[:JUDGED_MAX]
    known, wanted = (_marks(some, people, model.fp) for some in (earlier, later))
    interest = known.astype(np.float64) @ model.vectors
    popular = np.broadcast_to(np.bincount(_places(earlier, model.fp), minlength=len(model)), known.shape)
    by_vectors = recall(interest @ model.vectors.T, known, wanted, RECALL_K)
    by_popularity = recall(popular.astype(np.float64), known, wanted, RECALL_K)
    there = ~np.isnan(by_vectors)
    if not there.any():
        return {}
    return {
        "people": float(there.sum()),
        f"recall@{RECALL_K}": float(by_vectors[there].mean()),
        f"recall@{RECALL_K} of popularity": float(by_popularity[there].mean()),
    }


def _places(found: Engagements, fp: U64) -> NDArray[np.int64]:
    at = np.searchsorted(fp, found.fp)
    at = np.minimum(at, len(fp) - 1)
    known: NDArray[np.int64] = at[fp[at] == found.fp]
    return known


def _marks(found: Engagements, people: NDArray[np.int64], fp: U64) -> NDArray[np.bool_]:
    """bool[people, items]."""
    marks = np.zeros((len(people), len(fp)), np.bool_)
    user, at = np.searchsorted(people, found.user), np.searchsorted(fp, found.fp)
    there = (user < len(people)) & (at < len(fp))
    user, at = np.minimum(user, len(people) - 1), np.minimum(at, len(fp) - 1)
    there &= (people[user] == found.user) & (fp[at] == found.fp)
    marks[user[there], at[there]] = True
    return marks
