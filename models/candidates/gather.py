"""Candidates (7): what the sources propose, merged for each user of a slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.candidates.embedding import Embedding
from models.candidates.engaged import ItemToItem, SocialProof
from models.candidates.in_network import Following, InNetwork
from models.candidates.lists import Explore, TopicTrending, Trending
from models.candidates.query import USERS_MAX, Query
from models.order import true_places

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U16 = NDArray[np.uint16]

_COLUMN_BITS = 13  # all reaches together are below
_COLUMN_MASK = (1 << _COLUMN_BITS) - 1


class Source(Protocol):
    """Proposes items to users. `bit`: its place in the mask of sources."""

    @property
    def name(self) -> str: ...
    @property
    def bit(self) -> int: ...
    def propose(self, query: Query, reach: int) -> I32:
        """int32[U, <= reach]: slots of items, best first; -1 for none, anywhere."""
        ...


FOR_YOU: tuple[Source, ...] = (
    InNetwork(),
    Embedding(),
    ItemToItem(),
    SocialProof(),
    Trending(),
    TopicTrending(),
    Explore(),
)
SOURCE_NAMES = tuple(source.name for source in FOR_YOU)
"""By bit."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Of U users: `item` int32[U, C] slots, each once, -1 after the last; `sources` uint16[U, C]: bit b is
    set when the source with that bit proposed it; `failed`: sources that raised, and what."""

    item: I32
    sources: U16
    failed: dict[str, Exception]


def gather(query: Query, sources: Sequence[Source] = FOR_YOU) -> Candidates:
    """Ask all sources and merge. The same for each user whatever users are in the slice.

    First come the proposals within the quotas, source by source in the order given, each best first; then, in
    the same order, those beyond. An item counts where it comes first; at most `limits.candidates` stay.
    Raises ValueError for more than USERS_MAX users.
    """
    limits = query.limits.sources
    return _gather(query, [(source, *limits[source.name]) for source in sources if source.name in limits])


def following(query: Query) -> Candidates:
    """In-network only and by time, as many as there may be candidates."""
    return _gather(query, [(Following(), query.limits.candidates, query.limits.candidates)])


def _gather(query: Query, sources: list[tuple[Source, int, int]]) -> Candidates:
    if not 1 <= len(query) <= USERS_MAX:
        raise ValueError(f"{len(query)} users in a slice; give 1 to {USERS_MAX}")
    failed: dict[str, Exception] = {}
    within, beyond = [], []
    for source, quota, reach in sources:
        try:
            proposed = source.propose(query, reach)
        except Exception as error:
            failed[source.name] = error
            continue
        within.append((proposed[:, :quota], source.bit))
        beyond.append((proposed[:, quota:], source.bit))
    return Candidates(*_merged(query, within + beyond), failed)


def _merged(query: Query, parts: list[tuple[I32, int]]) -> tuple[I32, U16]:
    """Parts in order of preference as candidates int32[U, C] and masks uint16[U, C]."""
    parts = [part for part in parts if part[0].shape[1]]
    if not parts:
        return np.full((len(query), 1), -1, np.int32), np.zeros((len(query), 1), np.uint16)
    proposed = np.concatenate([items for items, _ in parts], axis=1)
    bits = np.repeat([1 << bit for _, bit in parts], [items.shape[1] for items, _ in parts]).astype(np.uint16)
    live = query.index.live.take(proposed, mode="clip")
    live &= proposed >= 0
    masks = np.where(live, bits, np.uint16(0))
    _merge_repeated(proposed, masks, bits)
    return _packed(proposed, masks, query.limits.candidates)


def _merge_repeated(proposed: I32, masks: U16, bits: U16) -> None:
    """Give the bits of each repeated item to the place where it comes first in its row."""
    keys = proposed.astype(np.int64) << _COLUMN_BITS
    keys |= np.arange(proposed.shape[1])
    keys.sort(axis=1)
    item = keys >> _COLUMN_BITS
    repeats = np.zeros(item.shape, np.bool_)
    np.equal(item[:, 1:], item[:, :-1], out=repeats[:, 1:])
    repeats &= item >= 0
    user, at = true_places(repeats)
    if not len(user):
        return
    column = keys[user, at] & _COLUMN_MASK
    first = at - 1
    while (again := repeats[user, first]).any():
        first = first - again
    first_column = keys[user, first] & _COLUMN_MASK
    alive = masks[user, first_column] != 0
    np.bitwise_or.at(masks, (user[alive], first_column[alive]), bits[column[alive]])
    masks[user, column] = 0


def _packed(proposed: I32, masks: U16, candidates_max: int) -> tuple[I32, U16]:
    """The first `candidates_max` of each row with a mask, without holes."""
    there = masks != 0
    there &= np.cumsum(there, axis=1, dtype=np.int32) <= candidates_max
    count = there.sum(axis=1)
    width = max(1, int(count.max()))
    item, sources = np.full((len(masks), width), -1, np.int32), np.zeros((len(masks), width), np.uint16)
    taken = there.reshape(-1).nonzero()[0]
    filled = (np.arange(width) < count[:, None]).reshape(-1).nonzero()[0]
    item.reshape(-1)[filled] = proposed.reshape(-1).take(taken)
    sources.reshape(-1)[filled] = masks.reshape(-1).take(taken)
    return item, sources
