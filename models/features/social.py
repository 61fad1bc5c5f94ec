"""Social proof (8): who engaged with the item."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.features.definition import Family, Told
from models.features.pairs import Pairs, asked
from models.features.scene import Scene
from models.features.whole import log2_whole
from models.item_columns import ENGAGER_BITS_MASK
from models.items import ENGAGERS

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DAY_BITS = 16
_LOG_COUNT = log2_whole(np.arange(1.0, ENGAGERS + 2))

social = Family("social")


@social.pair("graph.follows", "derived.engagers", reason=Told("liked by people you follow"))
def followed_engagers(scene: Scene, out: F64) -> None:
    """log2(1 + followed users among the last 16 who acted strongly on the item and did not take it back)."""
    out[...] = 0.0
    followees = scene.lookups.followees
    if not len(followees.user):
        return
    flat = _maybe_followed(scene)
    row = flat // ENGAGERS
    edges = scene.index.derived["engagers"][scene.at.reshape(-1).take(row), flat - row * ENGAGERS]
    wanted = asked(row // scene.shape[1], edges >> np.uint64(DAY_BITS))
    hits = row[Pairs(scene.shape[0], followees.user, followees.fp48).find(wanted)[0]]
    out[...] = _LOG_COUNT.take(np.bincount(hits, minlength=out.size)).reshape(scene.shape)


def _maybe_followed(scene: Scene) -> I64:
    """Flat places int64[m] in [U * C, 16] whose lowest fingerprint bits are those of somebody whom the user
    follows. Few others are, so that only few have to be looked up."""
    user, fp48, _ = scene.lookups.followees
    followed = (fp48 & np.uint64(ENGAGER_BITS_MASK)).view(np.int64)
    ends = np.bincount(user, minlength=scene.shape[0]).cumsum().tolist()
    flags = np.empty(ENGAGER_BITS_MASK + 1, np.bool_)
    found, size = [], scene.shape[1] * ENGAGERS
    for number, (begin, end) in enumerate(pairwise([0, *ends])):  # one at a time stays in the nearest cache
        flags.fill(False)
        flags[followed[begin:end]] = True
        engagers = scene.index.engager_bits.take(scene.at[number], axis=0)
        found.append(flags.take(engagers.reshape(-1)).nonzero()[0] + number * size)
    return np.concatenate(found)
