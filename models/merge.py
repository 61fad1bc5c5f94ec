"""Merging engagements into affinities (2, 7): authors, topics and the interest embedding of m users at once.

Integer arithmetic only. Used by ingest when a user's ring of 16 is full, and by ranking on copies for the
rest of the ring, so that the newest engagement already counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.tables import DECAY_BITS, DECAY_NEGATIVE, DECAY_POSITIVE, decay
from models.user_row import AUTHORS_MAX, EMBEDDING_DIM, INTERESTS, INTERESTS_PART, RING, TOPICS_MAX
from models.verbs import VerbTable

__all__ = ["RING", "Entries", "ItemAttributes", "ItemLookup", "Rows", "merge", "merge_unfinished"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Rows = NDArray[np.void]

ITEM_TOPICS_MAX = 4
AFFINITY_UNIT = 256
AFFINITY_MAX = 1 << 30
UNDO_BIT = 0x80
VERB_BITS = 0x1F
HOUR_S = 3_600

_WIDTH = AUTHORS_MAX + RING * ITEM_TOPICS_MAX
_ROOM = np.array([AUTHORS_MAX, TOPICS_MAX])
_USERS_MAX = 512


class ItemAttributes(Protocol):
    """Attributes of k items; unknown items have zeros everywhere."""

    @property
    def known(self) -> NDArray[np.bool_]: ...
    @property
    def author_fp32(self) -> NDArray[np.uint32]: ...
    @property
    def topic_fp32(self) -> NDArray[np.uint32]:
        """uint32[k, 4], 0 = none."""
        ...

    @property
    def embedding(self) -> NDArray[np.int8]:
        """int8[k, 64]."""
        ...


class ItemLookup(Protocol):
    """What the rows need of the item index."""

    def attributes(self, fps: U64) -> ItemAttributes: ...
    def lookup(self, fps: U64) -> NDArray[np.int32]:
        """Dense index by fp64, -1 = unknown."""
        ...


def merge_unfinished(rows_copy: Rows, items: ItemLookup, verbs: VerbTable) -> None:
    """Merge what is left in each row's ring (engaged % 16 entries), in place: give it copies of rows.

    The result serves ranking only and never goes back to state. A row without unmerged entries stays as is.
    """
    waiting = (rows_copy["engaged"] % RING).astype(np.int64)
    which = np.flatnonzero(waiting)
    if which.size:
        ring = Entries(*(rows_copy[name][which] for name in ("ring_fp", "ring_s", "ring_act")))
        merge(rows_copy, which, np.ones_like(which), ring, waiting[which], items, verbs)


@dataclass(frozen=True, slots=True)
class Entries:
    """The rings of T merges: fp uint64[T, 16], at_s [T, 16], act (verb | UNDO_BIT) [T, 16].

    In order of laps: first the first merge of every user, then the second of those who have one, ...
    """

    fp: U64
    at_s: NDArray[Any]
    act: NDArray[Any]


def merge(
    rows: Rows, slots: I64, laps: I64, ring: Entries, used: I64, items: ItemLookup, verbs: VerbTable
) -> None:
    """Merge `laps[j]` rings, one after the other, into each row `slots[j]` (unique), in place.

    `laps` int64[m] descends, so the users of lap r are the first ones. `used` int64[T]: how many entries
    of each ring count, from place 0. What does not depend on earlier merges is done for all T at once.
    """
    lap_users = [int((laps > lap).sum()) for lap in range(int(laps[0]))]
    starts = [0, *np.cumsum(lap_users).tolist()]
    windows = [slice(start, start + users) for start, users in zip(starts, lap_users, strict=False)]
    valid = np.arange(RING) < used[:, None]
    at_s = np.where(valid, ring.at_s, 0).astype(np.int64)
    interests = rows.view(INTERESTS_PART)["interests"]
    block = interests[slots].view(INTERESTS)
    now_s, hours = _clock(rows, slots, at_s, windows)

    attributes = items.attributes(ring.fp.ravel())
    counted = valid & attributes.known.reshape(valid.shape)
    affinity = np.where(counted, _by_code(verbs)[ring.act & VERB_BITS], 0)
    undo = ring.act >= UNDO_BIT
    news = _news(affinity, undo, (now_s[:, None] - at_s) // HOUR_S, attributes, counted)
    _merge_embeddings(block, np.where(undo, -affinity, affinity), attributes.embedding, windows)
    state = _load(block)
    fading = np.stack([t[np.minimum(hours, len(t) - 1)] for t in (DECAY_POSITIVE, DECAY_NEGATIVE)])
    for lap in windows:
        for first in range(lap.start, lap.stop, _USERS_MAX):
            part = slice(first, min(first + _USERS_MAX, lap.stop))
            _merge_lap(state, slice(first - lap.start, part.stop - lap.start), fading, news, part)
    _store(block, state)
    interests[slots] = block.view(interests.dtype)


def _by_code(verbs: VerbTable) -> I64:
    """Affinity by verb code; codes that the policy no longer has count 0."""
    by_code = np.zeros(VERB_BITS + 1, np.int64)
    by_code[: len(verbs)] = verbs.affinity
    return by_code


def _clock(rows: Rows, slots: I64, at_s: I64, windows: list[slice]) -> tuple[I64, I64]:
    """When each of T merges happens (s), and whole hours since the merge before it; advances `merged_s`."""
    merged_s = rows["merged_s"][slots].astype(np.int64)
    now_s, since_s = at_s.max(axis=1), np.empty(len(at_s), np.int64)
    for lap in windows:
        before = merged_s[: lap.stop - lap.start]
        now = np.maximum(now_s[lap], before)
        now_s[lap], since_s[lap] = now, now - before
        before[:] = now
    rows["merged_s"][slots] = merged_s
    return now_s, since_s // HOUR_S


def _merge_embeddings(block: Rows, signed: I64, embedding: NDArray[np.int8], windows: list[slice]) -> None:
    """e += (S >> 4) - (e >> 3), S = sum(affinity * item): exact in float32, as |S| < 16 * 64 * 128 < 2^24."""
    stacked = embedding.reshape(-1, RING, EMBEDDING_DIM).astype(np.float32)
    pull = np.matmul(signed[:, None, :].astype(np.float32), stacked)[:, 0, :].astype(np.int32) >> 4
    interest = block["embedding"].astype(np.int32)
    for lap in windows:
        e = interest[: lap.stop - lap.start]
        e[:] = np.minimum(np.maximum(e + pull[lap] - (e >> 3), -32_768), 32_767)
    block["embedding"] = interest


@dataclass(frozen=True, slots=True)
class _Lists:
    """Authors (list 0), topics (list 1): `key` int64[n, 2, width], `value` int64[2, n, 2, width]: pos, neg.

    Of m users with width 24, or what T merges add, with width 64.
    """

    key: I64
    value: I64


def _load(block: Rows) -> _Lists:
    columns = np.zeros((3, block.size, 2, AUTHORS_MAX), np.int64)
    for part, both in zip(("fp", "pos", "neg"), columns, strict=True):
        both[:, 0], both[:, 1, :TOPICS_MAX] = block["author_" + part], block["topic_" + part]
    return _Lists(columns[0], columns[1:])


def _store(block: Rows, state: _Lists) -> None:
    for part, both in zip(("fp", "pos", "neg"), (state.key, *state.value), strict=True):
        block["author_" + part], block["topic_" + part] = both[:, 0], both[:, 1, :TOPICS_MAX]


def _news(
    affinity: I64, undo: NDArray[np.bool_], age_h: I64, attributes: ItemAttributes, counted: NDArray[np.bool_]
) -> _Lists:
    merges = len(affinity)
    key = np.zeros((merges, 2, RING * ITEM_TOPICS_MAX), np.int64)
    key[:, 0, :RING] = np.where(counted, attributes.author_fp32.reshape(merges, RING), 0)
    topics = attributes.topic_fp32.reshape(merges, RING, ITEM_TOPICS_MAX)
    key[:, 1] = np.where(counted[:, :, None], topics, 0).reshape(merges, -1)
    value = np.zeros((2, *key.shape), np.int64)
    sides = (affinity, DECAY_POSITIVE, value[0]), (-affinity, DECAY_NEGATIVE, value[1])
    for strength, table, both in sides:
        change = decay(np.maximum(strength, 0) * AFFINITY_UNIT, age_h, table)
        change[undo] *= -1
        both[:, 0, :RING], both[:, 1] = change, np.repeat(change, ITEM_TOPICS_MAX, axis=1)
    return _Lists(key, value)


def _merge_lap(state: _Lists, users: slice, fading: I64, news: _Lists, merges: slice) -> None:
    """One ring for each of these users: decay, add, keep the largest."""
    keys = np.concatenate([state.key[users], news.key[merges]], axis=2)
    faded = (state.value[:, users] * fading[:, merges, None, None]) >> DECAY_BITS
    values = np.concatenate([faded, news.value[:, merges]], axis=3)
    kept = _largest(keys.reshape(-1), values.reshape(2, -1), 2 * len(keys)).reshape(3, -1, 2, AUTHORS_MAX)
    state.key[users], state.value[:, users] = kept[0], kept[1:]


def _largest(keys: I64, values: I64, lists: int) -> I64:
    """Sum by (list, key), clip, keep the 24 or 16 largest of a list by (pos + neg desc, key asc).

    `keys` int64[lists x 88], 0 = none; `values` int64[2, lists x 88]: pos and neg. Returns key, pos, neg as
    int64[3, lists x 24], zeros behind the last of each list.
    """
    out = np.zeros((3, lists * AUTHORS_MAX), np.int64)
    place = np.flatnonzero(keys)
    if not place.size:
        return out
    # One sort of plain integers: list (10 bits), key (32), place in the flat input (17).
    packed = np.sort(((place // _WIDTH) << 49) | (keys[place] << 17) | place)
    head = packed >> 17
    new = np.empty(head.size, np.bool_)
    new[0] = True
    np.not_equal(head[1:], head[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    sums = np.add.reduceat(values[:, packed & 0x1FFFF], starts, axis=1)
    sums = np.minimum(np.maximum(sums, 0), AFFINITY_MAX)
    head, size = head[starts], sums[0] + sums[1]
    # List (10 bits), score descending (32), key ascending by its place (17).
    best = np.sort(((head >> 32) << 49) | ((2 * AFFINITY_MAX - size) << 17) | np.arange(head.size))
    chosen, owner = best & 0x1FFFF, best >> 49
    rank = np.arange(best.size) - np.searchsorted(owner, np.arange(lists))[owner]
    stay = np.flatnonzero((rank < _ROOM[owner & 1]) & (size[chosen] > 0))
    chosen, cell = chosen[stay], owner[stay] * AUTHORS_MAX + rank[stay]
    out[0, cell], out[1:, cell] = head[chosen] & 0xFFFFFFFF, sums[:, chosen]
    return out
