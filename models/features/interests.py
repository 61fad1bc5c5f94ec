"""What a slice's users like (8): long-term weights of merged rows, short-term ones of the last 16 actions.

Long: the row's top authors and topics, decayed from their merge to `as_of`. Short: each engagement in the
ring counts its verb's affinity, halved every `half_life` of its verb. Both are integers.
"""

from __future__ import annotations

import weakref
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.features.whole import direction, log2_whole
from models.merge import AFFINITY_UNIT, HOUR_S, RING, UNDO_BIT, VERB_BITS
from models.order import true_places
from models.tables import DECAY_NEGATIVE, DECAY_POSITIVE, GRID, decay, exp2_fixed
from models.user_row import AUTHORS_MAX, TOPICS_MAX
from models.verbs import Role

if TYPE_CHECKING:
    from models.features.scene import Scene

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

VALUES = ("long_pos", "long_neg", "long_share", "short_pos", "short_neg")


class Ring(NamedTuple):
    """The engagement rings of U users: arrays [U, 16]; what is not there has weight 0 and role -1.

    `weight`: affinity times 4096, decayed and signed by undo. `liked`: of a verb with affinity above 0.
    """

    fp: U64
    role: I64
    undo: Bools
    number: I64
    weight: I64
    liked: Bools


class Interests:
    """Of one scene's users; everything is worked out at most once."""

    def __init__(self, scene: Scene) -> None:
        # the scene owns this: a strong reference back would keep its arrays until the garbage collector runs
        self.scene: Scene = weakref.proxy(scene)
        self.rows = scene.users.merged
        self.as_of_s = scene.as_of_ms // 1_000

    @cached_property
    def ring(self) -> Ring:
        rows, verbs = self.rows, self.scene.verbs
        engaged = rows["engaged"].astype(np.int64)[:, None]
        number = engaged - 1 - (engaged - 1 - np.arange(RING)) % RING
        there = number >= 0
        act = rows["ring_act"].astype(np.int64)
        verb = np.minimum(act & VERB_BITS, len(verbs) - 1)
        undo = ((act & UNDO_BIT) != 0) & there
        age_s = np.maximum(self.as_of_s - rows["ring_s"].astype(np.int64), 0)
        half_life_s = np.array([v.half_life_s for v in verbs.verbs])[verb]
        fading = exp2_fixed(-(age_s * GRID // half_life_s).astype(np.float64)).astype(np.int64)
        affinity = np.where(there, verbs.affinity[verb].astype(np.int64), 0)
        role = np.where(there, verbs.role[verb].astype(np.int64), -1)
        weight = affinity * fading * np.where(undo, -1, 1)
        return Ring(rows["ring_fp"], role, undo, number, weight, affinity > 0)

    def standing(self, role: Role) -> tuple[I64, U64]:
        """User int64[k] and item fp uint64[k] of the ring's entries of a role that no later undo withdrew."""
        user, place = true_places(self._standing & (self.ring.role == role))
        return user, self.ring.fp[user, place]

    @cached_property
    def _standing(self) -> Bools:
        """bool[U, 16]: entries that no later undo of their role withdrew."""
        ring = self.ring
        if not ring.undo.any():
            return np.ones(ring.undo.shape, np.bool_)
        same = (ring.fp[:, :, None] == ring.fp[:, None, :]) & (ring.role[:, :, None] == ring.role[:, None, :])
        later = ring.number[:, None, :] > ring.number[:, :, None]
        withdrawn: Bools = (same & later & ring.undo[:, None, :]).any(axis=2)
        return ~(ring.undo | withdrawn)

    @cached_property
    def long_direction(self) -> F32:
        """float32[U, 64] in -127..127: the interest embedding."""
        return direction(self.rows["embedding"].astype(np.int64))

    @cached_property
    def short_direction(self) -> F32:
        """float32[U, 64] in -127..127: the weighted sum of the ring's embeddings."""
        slots = self.ring_slots
        weight = np.where(slots >= 0, self.ring.weight, 0).astype(np.float64)
        # whole numbers: 16 * 64 * 2^12 * 2^7 < 2^53, so any order of summation gives the same
        items = self.scene.index.embedding.take(np.maximum(slots, 0), axis=0).astype(np.float64)
        return direction(np.matmul(weight[:, None, :], items)[:, 0, :].astype(np.int64))

    @cached_property
    def ring_slots(self) -> I64:
        """int64[U, 16]: items of the ring in the index, -1 = unknown."""
        return np.where(self.ring.role >= 0, self.scene.lookups.ring_slots, -1)

    @cached_property
    def known_entries(self) -> tuple[I64, I64]:
        """User int64[k] and place int64[k] of the ring's entries with live items."""
        return true_places(self.ring_slots >= 0)

    def short(self, cell: I64 | I32, user: I64, place: I64, cells: int) -> F64:
        """float64[2, cells]: log2(1 + sum) of the ring's weights for and against; `cell` of (user, place)."""
        weight = self.ring.weight[user, place].astype(np.float64)
        liked = self.ring.liked[user, place]
        sums = np.empty((2, cells))
        sums[0] = np.bincount(cell, weight * liked, cells)
        sums[1] = np.bincount(cell, weight * liked - weight, cells)
        np.maximum(sums, 0.0, out=sums)
        sums += GRID
        return log2_whole(sums) - _LOG_GRID

    def long(self, name: str) -> F64:
        """float64[3, U, top]: log2(1 + weight) for and against, and the share of all weight for."""
        return self._long[:, :, :AUTHORS_MAX] if name == "author" else self._long[:, :, AUTHORS_MAX:]

    @cached_property
    def _long(self) -> F64:
        """float64[3, U, 24 + 16]: of authors and of topics."""
        rows = self.rows
        hours = np.maximum(self.as_of_s - rows["merged_s"].astype(np.int64), 0)[:, None] // HOUR_S
        held = np.empty((2, len(rows), AUTHORS_MAX + TOPICS_MAX), np.int64)
        for out, side, table in zip(held, ("_pos", "_neg"), (DECAY_POSITIVE, DECAY_NEGATIVE), strict=True):
            out[:, :AUTHORS_MAX], out[:, AUTHORS_MAX:] = rows["author" + side], rows["topic" + side]
            out[:] = decay(out, hours, table)
        values = np.empty((3, *held.shape[1:]))
        values[:2] = held
        values[:2] += AFFINITY_UNIT
        values[:2] = log2_whole(values[:2])
        values[:2] -= _LOG_UNIT
        for part in (slice(0, AUTHORS_MAX), slice(AUTHORS_MAX, None)):
            pos = held[0, :, part]
            values[2, :, part] = pos * GRID // np.maximum(pos.sum(axis=1, keepdims=True), 1)
        return values


_LOG_GRID = float(log2_whole(np.full(1, float(GRID)))[0])
_LOG_UNIT = float(log2_whole(np.full(1, float(AFFINITY_UNIT)))[0])
