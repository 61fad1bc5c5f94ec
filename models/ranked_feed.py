"""Ranked feeds (10, 11): what a slice's ranking hands over, one feed per user."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.candidates import SOURCE_NAMES
from models.explain import Explainer
from models.explore import Slots
from models.features import Scene
from models.rules import CHANGES

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_CHANGED = [
    tuple(change.name for bit, change in enumerate(CHANGES) if mask >> bit & 1)
    for mask in range(1 << len(CHANGES))
]


@dataclass(slots=True)
class RankedFeed:
    """One user's feed of k entries, best first, and what its record in the served log needs.

    `items` int64[k]: slots in the index at the time of ranking; `item_fp` uint64[k]. `scores` float64[k]:
    whole millionths (`following`: creation in seconds). `sources` uint16[k]: masks by SOURCE_NAMES; `source`
    int64[k]: the first one. `reason` int64[k]: codes, see `why`. `explored` bool[k]; `propensity` float64[k],
    nan where not explored; `slate`: so many entries at the top were drawn as a slate, each given those
    before, and from how many (0, 0: none; explored ones are uniform). `changed` uint8[k]: bit i, CHANGES[i]
    lowered the score. `dropped`: candidates by rule; `candidates`: by source; `failed`: sources that raised.
    `features` int32[F, m]: of the entries `featured` int64[m]; None for most feeds.
    """

    user: bytes
    user_fp: int
    surface: str
    version: str
    as_of_ms: int
    tick: int
    seed: int
    policy: str
    model: str
    items: I64
    item_fp: U64
    scores: F64
    sources: NDArray[np.uint16]
    source: I64
    reason: I64
    explored: Bools
    propensity: F64
    changed: NDArray[np.uint8]
    dropped: dict[str, int]
    candidates: dict[str, int]
    failed: dict[str, str]
    explainer: Explainer = field(repr=False)
    features: NDArray[np.int32] | None = None
    featured: I64 | None = None
    slate: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def why(self) -> list[tuple[str, ...]]:
        """Up to three short sentences per entry."""
        return [self.explainer.texts(code) for code in self.reason.tolist()]

    @property
    def source_names(self) -> list[str]:
        """The first source of each entry."""
        return [SOURCE_NAMES[bit] for bit in self.source.tolist()]

    @property
    def rules(self) -> list[tuple[str, ...]]:
        """Per entry the rules that lowered its score."""
        return [_CHANGED[mask] for mask in self.changed.tolist()]


class Emitted:
    """The n entries of all feeds of a slice, user after user: `flat` int64[n] are their places in [U * C]."""

    def __init__(self, scene: Scene, slots: Slots) -> None:
        self.scene, self.slots = scene, slots
        users, length = slots.place.shape
        self._filled = np.arange(length) < slots.count[:, None]
        self.flat: I64 = (slots.place + np.arange(users)[:, None] * scene.shape[1])[self._filled]
        ends = np.cumsum(slots.count)
        self.parts = [slice(e - c, e) for c, e in zip(slots.count.tolist(), ends.tolist(), strict=True)]

    def __len__(self) -> int:
        return len(self.flat)

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """[n]: values [U, C] of candidates, by entry."""
        return values.reshape(-1).take(self.flat)

    def of_slots(self, values: NDArray[Any]) -> NDArray[Any]:
        """[n]: values [U, L] of slots, by entry."""
        return values[self._filled]
