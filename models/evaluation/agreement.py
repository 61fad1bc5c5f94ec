"""How much two rankings of the same users agree: overlap@k, rank-biased overlap, Kendall's tau (after 10).

    pairs = Pairs.of(a, b)
    pairs.overlap(10); pairs.rank_biased(0.9); pairs.tau()

Lists are best first and hold no item twice. Everything is counted for all users at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LIST_BITS = 16
LIST_MAX = 1 << LIST_BITS


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two lists of each of U users.

    `size_a`, `size_b` int64[U]: their lengths. Of the n items that both lists of a user hold: `user`
    int64[n], ascending; `place_a`, `place_b` int64[n] from 0, `place_a` ascending.
    """

    size_a: I64
    size_b: I64
    user: I64
    place_a: I64
    place_b: I64

    @classmethod
    def of(cls, a: Sequence[Sequence[Hashable]], b: Sequence[Sequence[Hashable]]) -> Pairs:
        """From item ids, one list per user. Raises ValueError for other lengths of `a` and `b`, an item that
        comes twice in a list, or a list of more than LIST_MAX.

        >>> pairs = Pairs.of([["x", "y", "z"]], [["y", "x", "q"]])
        >>> pairs.place_a.tolist(), pairs.place_b.tolist()
        ([0, 1], [1, 0])
        """
        common = [_common(one, other) for one, other in zip(a, b, strict=True)]
        places = np.array([place for some in common for place in some], np.int64).reshape(-1, 2)
        user = np.repeat(np.arange(len(common)), [len(some) for some in common])
        size_a, size_b = (np.array([len(one) for one in lists], np.int64) for lists in (a, b))
        return cls(size_a, size_b, user, places[:, 0], places[:, 1])

    def __len__(self) -> int:
        return len(self.size_a)

    @property
    def common(self) -> I64:
        """int64[U]: how many items both lists hold."""
        return np.bincount(self.user, minlength=len(self))

    def overlap(self, k: int) -> F64:
        """float64[U]: |A_k and B_k| / max(|A_k|, |B_k|) with A_k the first k of A; nan where both are empty.

        1 says the same set, in any order. Raises ValueError for k < 1.
        """
        if k < 1:
            raise ValueError(f"overlap of the first {k}; ask for 1 or more")
        both = np.bincount(self.user[np.maximum(self.place_a, self.place_b) < k], minlength=len(self))
        longest = np.minimum(np.maximum(self.size_a, self.size_b), k)
        return _share(both, longest)

    def rank_biased(self, p: float) -> F64:
        """float64[U]: extrapolated rank-biased overlap; nan where both lists are empty, 0 where one is.

        Equation 32 (RBO_ext for lists of uneven length) of Webber, Moffat, Zobel: A Similarity Measure for
        Indefinite Rankings, ACM TOIS 28 (4), 2010. p, between 0 and 1 exclusive, is the probability that a
        reader who looked at one entry looks at the next; the first 1 / (1 - p) entries weigh most.
        Raises ValueError for another p.
        """
        if not 0 < p < 1:
            raise ValueError(f"p is {p}; it lies between 0 and 1, for example 0.9")
        short, long = np.minimum(self.size_a, self.size_b), np.maximum(self.size_a, self.size_b)
        depth = np.arange(1, max(int(long.max(initial=0)), 1) + 1)
        overlap = self.overlaps(len(depth))
        last = _at(overlap, long)
        at_short = _at(overlap, short)
        past = np.clip(depth - short[:, None], 0, None) / np.maximum(short, 1)[:, None]
        seen = (overlap + at_short[:, None] * past) / depth * p**depth
        total = np.where(depth <= long[:, None], seen, 0.0).sum(axis=1) * (1 - p) / p
        total += (_share(last - at_short, long) + at_short / np.maximum(short, 1)) * p ** long.astype(float)
        return np.where(long == 0, np.nan, np.where(short == 0, 0.0, total))

    def overlaps(self, depths: int) -> I64:
        """int64[U, depths]: |A_d and B_d| for d = 1 and on."""
        deeper = np.maximum(self.place_a, self.place_b)
        at = (self.user * depths + deeper)[deeper < depths]
        return np.bincount(at, minlength=len(self) * depths).reshape(-1, depths).cumsum(axis=1)

    def tau(self) -> F64:
        """float64[U]: Kendall's tau over the items that both lists hold; nan where these are less than two.

        1 - 4 D / (n (n - 1)), D the pairs in another order. M. G. Kendall: A New Measure of Rank Correlation,
        Biometrika 30 (1/2), 1938. There are no ties: places are distinct.
        """
        n = self.common
        pairs = n * (n - 1)
        return np.where(pairs > 0, 1 - 4 * self.discordant() / np.maximum(pairs, 1), np.nan)

    def discordant(self) -> I64:
        """int64[U]: pairs of common items that stand in another order.

        Inversions, bit by bit: two places differ first at one bit, and are out of order there when the one
        with the bit set comes first. So each pass counts, in groups of equal higher bits, pairs of a 1 before
        a 0, and splits the groups by that bit.
        """
        value = (self.user << LIST_BITS) + self.place_b
        total = np.zeros(len(self), np.int64)
        bits = int(self.place_b.max(initial=0)).bit_length()
        for bit in range(bits - 1, -1, -1):
            one = value >> bit & 1
            group = value >> (bit + 1)
            starts = np.flatnonzero(np.diff(group, prepend=-1))
            ones = np.cumsum(one) - one
            before = ones - np.repeat(ones[starts], np.diff(starts, append=len(value)))
            total += np.bincount(value >> LIST_BITS, before * (1 - one), len(self)).astype(np.int64)
            value = value[np.argsort(value >> bit, kind="stable")]
        return total


def percentiles(values: F64, at: Sequence[float]) -> F64:
    """float64[len(at)]: values that are no nan, linearly between neighbours; nan where there are none."""
    known = values[~np.isnan(values)]
    return np.percentile(known, at) if known.size else np.full(len(at), np.nan)


def _common(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    place = {item: at for at, item in enumerate(b)}
    if len(place) < len(b) or len(set(a)) < len(a):
        raise ValueError("a list holds an item twice; ranks need distinct items")
    if max(len(a), len(b)) > LIST_MAX:
        raise ValueError(f"a list of {max(len(a), len(b))} items; at most {LIST_MAX}")
    return [(at, place[item]) for at, item in enumerate(a) if item in place]


def _at(overlap: I64, depth: I64) -> I64:
    """int64[U]: overlap at each user's depth; 0 at depth 0."""
    found = overlap[np.arange(len(depth)), np.maximum(depth, 1) - 1]
    return np.where(depth > 0, found, 0)


def _share(part: I64, whole: I64) -> F64:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
