"""In-network candidates (7): the newest items of the authors whom a user follows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.candidates.query import (
    FOLLOWEES_MAX,
    IN_NETWORK_SCAN_MAX,
    ITEMS_PER_FOLLOWEE_MAX,
    ITEMS_PER_FOLLOWEE_MIN,
    Query,
    padded,
)
from models.candidates.ranking import largest
from models.postings import NONE_MS

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

AFFINITY_UNIT_BITS = 8
BOOST_H_MAX = 48
HOUR_MS = 3_600_000

_POSITION_BITS = 15  # FOLLOWEES_MAX * ITEMS_PER_FOLLOWEE_MAX < 2^15
_POSITION = (1 << _POSITION_BITS) - 1


class InNetwork:
    """Newest first, each unit of affinity for its author making an item an hour younger (48 at most)."""

    name, bit = "in_network", 0
    by_time = False

    def propose(self, query: Query, reach: int) -> I32:
        author, count = _followees(query)
        each = IN_NETWORK_SCAN_MAX // np.maximum(count, 1)
        each = np.minimum(np.maximum(each, ITEMS_PER_FOLLOWEE_MIN), ITEMS_PER_FOLLOWEE_MAX)
        columns = np.arange(each.max(initial=0, where=count > 0))
        groups = query.index.by_author
        at = author * np.int64(groups.newest.shape[1])
        keys = groups.newest_ms.take(np.maximum(at, 0)[:, :, None] + columns)
        if not self.by_time:
            keys += _boost_ms(query, author)[:, :, None]
        keys <<= _POSITION_BITS
        keys |= _POSITION - (np.arange(author.shape[1])[:, None] * ITEMS_PER_FOLLOWEE_MAX + columns)
        keys[author < 0] = -1
        if each.min() < len(columns):
            keys[np.broadcast_to(columns >= each[:, None, None], keys.shape)] = -1
        best = largest(keys.reshape(len(query), -1), reach)
        place, column = np.divmod(_POSITION - (best & _POSITION), ITEMS_PER_FOLLOWEE_MAX)
        some = best >= 0
        place *= some
        place += np.arange(len(query))[:, None] * author.shape[1]
        return np.where(some, groups.newest.take(at.take(place) + column, mode="clip"), np.int32(-1))


class Following(InNetwork):
    """The same by time alone, for the surface `following`."""

    by_time = True


def _followees(query: Query) -> tuple[I32, I64]:
    """The followees with live items, at most FOLLOWEES_MAX each: authors int32[U, F] (-1 after the last, in
    the order of the edges), and how many int64[U]."""
    user, _, author = query.lookups.followees
    known = (author >= 0).nonzero()[0]
    authors, count = padded(user.take(known), author.take(known), len(query))
    if count.max(initial=0) > FOLLOWEES_MAX:
        newest_ms = np.where(authors >= 0, query.index.by_author.newest_ms[authors, 0], NONE_MS)
        order = np.lexsort((-newest_ms, -_affinity(query, authors), authors < 0), axis=1)[:, :FOLLOWEES_MAX]
        authors = np.take_along_axis(authors, np.sort(order, axis=1), axis=1)
        count = np.minimum(count, FOLLOWEES_MAX)
    return authors, count


def _boost_ms(query: Query, authors: I32) -> I64:
    hours: I64 = np.clip(_affinity(query, authors) >> AFFINITY_UNIT_BITS, 0, BOOST_H_MAX)
    return hours * HOUR_MS


def _affinity(query: Query, authors: I32) -> I64:
    """int64[U, F]: positive minus negative affinity of each user for their authors, 0 where there is none."""
    rows, (user, place, author) = query.users.merged, query.lookups.liked
    net = rows["author_pos"].astype(np.int64) - rows["author_neg"]
    own, theirs = query.index.by_author.numbered(author, author, authors)
    table = np.zeros((len(query), int(own.max(initial=0)) + 1), np.int64)
    table[user, own] = net[user, place]
    return table.take(theirs + np.arange(len(query))[:, None] * table.shape[1])
