"""How much a place on the page is looked at (3): what an impression there counts in position-debiased rates.

The discount of DCG, 1 / log2(place + 2) with places from 0 (Jarvelin and Kekalainen, 2002), as evaluation
uses it, over its mean of the first 20 places: so an impression counts 1 on average, and one of which nobody
said where it stood counts just that. Fixed and not learned from clicks by place: what stands high is also
better, so the places' own rates would take part of an item's worth for its place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNIT = 16
"""One impression at an average place."""

_RUNS = ((45, 1), (29, 1), (23, 1), (20, 1), (18, 1), (16, 1), (15, 1), (14, 2), (13, 2), (12, 3), (11, 5),
         (10, 7), (9, 13), (8, 26), (7, 35))  # fmt: skip

EXAMINATION: NDArray[np.int64] = np.array([w for w, times in _RUNS for _ in range(times)] + [UNIT])
"""int64[101] in units of 1/16: of places 0 to 99, then of an unknown one (so that -1 finds it)."""

EXAMINATION.setflags(write=False)
LAST_PLACE = len(EXAMINATION) - 2


def examination(places: NDArray[np.integer]) -> NDArray[np.int64]:
    """int64[n], units of 1/16, of places on the page from 0; -1: unknown; places after 99 count as 99.

    >>> examination(np.array([0, 5, 99, 30_000, -1])).tolist()
    [45, 16, 7, 7, 16]
    """
    found: NDArray[np.int64] = EXAMINATION.take(np.minimum(places, LAST_PLACE))
    return found
