"""Similarity (8): between an item's embedding and what the user was interested in, long-term and lately."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.definition import Family, Told
from models.features.scene import Scene
from models.tables import GRID

F64 = NDArray[np.float64]

similarity = Family("similarity")


@similarity.pair("merged.embedding", "item.embedding", reason=Told("close to your interests", GRID // 4))
def similarity_long(scene: Scene, out: F64) -> None:
    """Cosine with the interest embedding (it fades by an eighth with every 16 engagements)."""
    out[...] = scene.cosines[0]


@similarity.pair("row.ring", "item.embedding", reason=Told("close to what you liked lately", GRID // 4))
def similarity_short(scene: Scene, out: F64) -> None:
    """Cosine with the weighted sum of the embeddings of the last 16 engagements."""
    out[...] = scene.cosines[1]
