"""Graph rows of a slice of users as arrays (7, 8, 10): whom and what they follow, mute and block."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.graph import KIND_AUTHOR, GraphRow
from models.postings import Postings

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Relation = Literal["follows", "mutes", "blocks"]

_KINDS = {"follows": "follow_kinds", "mutes": "mute_kinds", "blocks": "block_kinds"}
_DAY_BITS = np.uint64(16)


class Edges(NamedTuple):
    """m edges, user after user, each one's oldest first: `user` int64[m], `fp48` uint64[m] of the object."""

    user: I64
    fp48: U64


class Followees(NamedTuple):
    """m followed authors, as Edges; `author` int32[m]: their numbers, -1 = without live items."""

    user: I64
    fp48: U64
    author: I32


class SliceGraph:
    """Of U users' graph rows; each list is put together at most once."""

    def __init__(self, rows: Sequence[GraphRow], authors: Postings) -> None:
        self._rows, self._authors = rows, authors
        self._lists: dict[Relation, tuple[Edges, NDArray[np.uint8]]] = {}

    def edges(self, relation: Relation, kind: int) -> Edges:
        """The edges to objects of one kind (KIND_AUTHOR, KIND_TOPIC, KIND_KEYWORD)."""
        edges, kinds = self._list(relation)
        if kind == KIND_AUTHOR and not kinds.any():
            return edges
        chosen = np.flatnonzero(kinds == kind)
        return Edges(edges.user.take(chosen), edges.fp48.take(chosen))

    @cached_property
    def followees(self) -> Followees:
        """The authors whom the users follow, whether they have items or not."""
        user, fp48 = self.edges("follows", KIND_AUTHOR)
        return Followees(user, fp48, self._authors.get(fp48))

    def _list(self, relation: Relation) -> tuple[Edges, NDArray[np.uint8]]:
        if relation not in self._lists:
            lists = [getattr(row, relation) for row in self._rows]
            kinds = np.concatenate([getattr(row, _KINDS[relation]) for row in self._rows])
            user = np.repeat(np.arange(len(lists)), [len(edges) for edges in lists])
            self._lists[relation] = Edges(user, np.concatenate(lists) >> _DAY_BITS), kinds
        return self._lists[relation]
