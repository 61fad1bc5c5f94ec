"""Who engaged with what: from activities to a matrix of users and items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.columns import ActivityColumns
from models.verbs import VerbTable

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

USER_ITEMS_MAX = 200
"""Newest items of a user that count: who engages with everything says nothing of what belongs together."""


@dataclass(frozen=True, slots=True)
class Engagements:
    """n distinct (user, item) pairs that were not withdrawn, by time: `user` int64[n] (numbered from 0), `fp`
    uint64[n] of the item, `time_ms` int64[n]."""

    user: I64
    fp: U64
    time_ms: I64

    def __len__(self) -> int:
        return len(self.user)

    def where(self, chosen: NDArray[np.bool_]) -> Engagements:
        """Some of them."""
        return Engagements(self.user[chosen], self.fp[chosen], self.time_ms[chosen])


def engagements(parts: Iterable[ActivityColumns], verbs: VerbTable) -> Engagements:
    """Positive ones: of verbs with an affinity above 0, with an undo of the verb taken out."""
    likes = np.array([verb.affinity > 0 for verb in verbs.verbs])
    last: dict[tuple[bytes, int, int], int] = {}
    for part in parts:
        for key, fp, verb, undone, at in zip(
            part.keys,
            part.object_fp.tolist(),
            part.verb.tolist(),
            part.undone_verb.tolist(),
            part.event_ms.tolist(),
            strict=True,
        ):
            if likes[verb]:
                last[key, fp, verb] = at
            elif undone >= 0:
                last.pop((key, fp, undone), None)
    pairs: dict[tuple[bytes, int], int] = {}
    for (key, fp, _), at in last.items():
        pairs[key, fp] = max(at, pairs.get((key, fp), at))
    return _newest(pairs)


def _newest(pairs: dict[tuple[bytes, int], int]) -> Engagements:
    names = {key: number for number, key in enumerate(sorted({key for key, _ in pairs}))}
    user = np.array([names[key] for key, _ in pairs], np.int64)
    fp = np.array([fp for _, fp in pairs], np.uint64)
    time_ms = np.array(list(pairs.values()), np.int64)
    order = np.lexsort((fp, -time_ms, user))
    user, fp, time_ms = user[order], fp[order], time_ms[order]
    place = np.arange(len(user)) - np.searchsorted(user, user)
    kept = Engagements(user, fp, time_ms).where(place < USER_ITEMS_MAX)
    by_time = np.lexsort((kept.fp, kept.user, kept.time_ms))
    return Engagements(kept.user[by_time], kept.fp[by_time], kept.time_ms[by_time])
