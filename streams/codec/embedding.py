"""Embeddings: floats as they come to the int8 that ranking adds up exactly (flow step 5).

The rule, in IEEE 754 binary64, the same in any language: each component is first rounded to binary32
(what Avro's float holds); `s` is the sum of the squares in index order, one after the other; component i
becomes `(x[i] * 127) / sqrt(s)`, rounded to the nearest whole number, ties to even. Missing dimensions are 0.
A vector of zeros is no embedding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.limits import EMBEDDING_DIMENSIONS_MAX

UNIT = 127


def quantise(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """int8[n, 64] of float32[n, 64]; all must be finite, and a row of zeros stays one.

    >>> quantise(np.array([[3, 4] + [0] * 62], np.float32))[0, :3].tolist()
    [76, 102, 0]
    """
    wide = vectors.astype(np.float64)
    total = np.zeros(len(wide), np.float64)
    for dimension in range(EMBEDDING_DIMENSIONS_MAX):  # a stated order: sums of floats depend on it
        total += wide[:, dimension] * wide[:, dimension]
    total[total == 0] = 1.0
    wide *= UNIT
    wide /= np.sqrt(total)[:, None]
    return np.rint(wide).astype(np.int8)
