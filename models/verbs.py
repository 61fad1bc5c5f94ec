"""The policy's verbs as a table: one small integer per verb, and one array per attribute."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

VERBS_MAX = 32


class Role(IntEnum):
    """What a verb does to state. The first four are the columns of the rings."""

    EXPOSURE = 0
    WEAK = 1
    STRONG = 2
    NEGATIVE = 3
    GRAPH = 4
    UNDO = 5


class GraphAct(IntEnum):
    """What a graph verb does."""

    NONE = 0
    FOLLOW = 1
    MUTE = 2
    BLOCK = 3


@dataclass(frozen=True, slots=True)
class Verb:
    """One row of the policy's verb table. `affinity`: what one activity adds to (or, negative, takes from)
    the user's affinity for the item's author and topics; `value`: what a predicted activity is worth."""

    name: str
    role: Role
    affinity: int = 0
    value: float = 0.0
    half_life_s: int = 30 * 86_400
    makes_due: bool = False
    label_window_s: int = 1_800
    graph: GraphAct = GraphAct.NONE


class VerbTable:
    """Verbs by code (their order in the policy) and the arrays that batches are indexed with.

    Raises ValueError for more than 32 verbs, a name twice, or |affinity| > 64.
    """

    def __init__(self, verbs: Iterable[Verb]) -> None:
        self.verbs = tuple(verbs)
        names = [v.name for v in self.verbs]
        if len(names) > VERBS_MAX:
            raise ValueError(f"the policy has {len(names)} verbs, at most {VERBS_MAX} fit; remove some")
        if len(set(names)) != len(names):
            raise ValueError("the policy names a verb twice; keep one of them")
        if any(abs(v.affinity) > 64 for v in self.verbs):
            raise ValueError("a verb's affinity is outside -64..64; scale them down")
        self.code = {name: i for i, name in enumerate(names)}
        self.role: NDArray[np.int8] = np.array([v.role for v in self.verbs], np.int8)
        self.affinity: NDArray[np.int32] = np.array([v.affinity for v in self.verbs], np.int32)
        self.makes_due: NDArray[np.bool_] = np.array([v.makes_due for v in self.verbs], np.bool_)
        self.graph: NDArray[np.int8] = np.array([v.graph for v in self.verbs], np.int8)

    def __len__(self) -> int:
        return len(self.verbs)
