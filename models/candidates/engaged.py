"""Candidates that others engaged with (7): those whom the user follows, those who share the user's items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.candidates.query import Query, low48
from models.candidates.ranking import NAME_BITS, most_named
from models.engagers import ENGAGER_ITEMS_MAX, NO_RANK
from models.merge import RING, UNDO_BIT, VERB_BITS
from models.verbs import Role

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

SOCIAL_SCAN_MAX = 500
ITEM_SEEDS_MAX = 4


class SocialProof:
    """Items that most of the user's followees engaged with, of equal ones the one engaged with last."""

    name, bit = "social_proof", 3

    def propose(self, query: Query, reach: int) -> I32:
        table = query.index.lists.engagers
        user, fp48, _ = query.lookups.followees
        ranks = table.of(fp48)
        known = ranks[:, 0] != NO_RANK
        found = np.bincount(user[known], minlength=len(query))
        each = np.clip(SOCIAL_SCAN_MAX // np.maximum(found, 1), 1, ENGAGER_ITEMS_MAX)
        columns = np.arange(each.max(initial=1, where=found > 0))
        user, ranks = user[known], ranks[known, : len(columns)]
        used = (ranks != NO_RANK) & (columns < each[:, None])[user]
        return pool_items(table.pool, most_named(_named(user, ranks)[used], len(query), reach))


class ItemToItem:
    """Items that share most engagers with the last items the user acted on strongly."""

    name, bit = "item_to_item", 2

    def propose(self, query: Query, reach: int) -> I32:
        table, slots = query.index.lists.engagers, recent_strong(query)
        engagers = query.index.derived["engagers"][np.maximum(slots, 0)] >> np.uint64(16)
        other = engagers != low48(query.users.fp)[:, None, None]
        seed_user, seed, place = np.nonzero((engagers != 0) & (slots >= 0)[:, :, None] & other)
        ranks = table.of(engagers[seed_user, seed, place])
        named = _named(seed_user, ranks)[ranks != NO_RANK]
        items = pool_items(table.pool, most_named(named, len(query), reach + ITEM_SEEDS_MAX))
        known = np.zeros(items.shape, np.bool_)
        for seeds in slots.T:
            known |= items == seeds[:, None]
        order = np.argsort(known, axis=1, kind="stable")[:, :reach]  # the seeds themselves go to the end ...
        return np.take_along_axis(np.where(known, np.int32(-1), items), order, axis=1)  # ... and out


def _named(user: I64, ranks: NDArray[np.uint16]) -> I32:
    """int32[m, 8]: each row's user before its ranks, as `most_named` takes them."""
    return (user.astype(np.int32) << NAME_BITS)[:, None] | ranks


def pool_items(pool: I32, ranks: I32) -> I32:
    """Places in the pool of engaged items as items, -1 stays."""
    if not len(pool):
        return np.full(ranks.shape, -1, np.int32)
    return np.where(ranks >= 0, pool[np.maximum(ranks, 0)], np.int32(-1))


def recent_strong(query: Query) -> I64:
    """int64[U, 4]: the last ITEM_SEEDS_MAX distinct items of strong verbs in the ring, newest first, without
    those that a later undo withdrew; -1 = fewer, or not live."""
    rows, users = query.users.rows, np.arange(len(query))[:, None]
    number = rows["engaged"].astype(np.int64)[:, None] - 1 - np.arange(RING)
    at = users, number % RING
    fp, act = rows["ring_fp"][at], rows["ring_act"][at]
    roles = np.zeros(VERB_BITS + 1, np.int8)
    roles[: len(query.verbs)] = query.verbs.role
    undo, strong = (act & UNDO_BIT) != 0, roles.take(act & VERB_BITS) == Role.STRONG
    settles = strong | undo
    same = (fp[:, :, None] == fp[:, None, :]) & settles[:, None, :]
    seed = strong & ~undo & (number >= 0) & ~(same & _NEWER).any(axis=2)
    place = seed.cumsum(axis=1) - 1
    out = np.full((len(query), ITEM_SEEDS_MAX), -1)
    user, k = (seed & (place < ITEM_SEEDS_MAX)).nonzero()
    out[user, place[user, k]] = query.lookups.ring_slots[at][user, k]
    return out


_NEWER = np.tri(RING, k=-1, dtype=np.bool_)
"""[k, j]: entry j is newer than k."""
