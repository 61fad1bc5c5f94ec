"""What a slice's users have to do with the index (7, 8, 10), looked up once for candidates, features, rules.

Whom and what they follow, mute and block, the items of their last engagements, the authors they like.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from operator import attrgetter
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.fingerprint import FP48
from models.graph import KIND_AUTHOR, GraphRow
from models.item_index import ItemIndex
from models.merge import Rows
from models.order import true_places

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Relation = Literal["follows", "mutes", "blocks", "own"]

_KINDS: dict[Relation, str] = {"follows": "follow_kinds", "mutes": "mute_kinds", "blocks": "block_kinds"}
_DAY_BITS = np.uint64(16)


class Users(Protocol):
    """What is read of U users: fp uint64[U], merged USER_ROW[U], and their graph rows."""

    @property
    def fp(self) -> U64: ...
    @property
    def merged(self) -> Rows: ...
    @property
    def graph(self) -> Sequence[GraphRow]: ...


class Edges(NamedTuple):
    """m edges, user after user, each one's oldest first: `user` int64[m], `fp48` uint64[m] of the object."""

    user: I64
    fp48: U64


class AuthorEdges(NamedTuple):
    """m edges to authors, as Edges; `author` int32[m]: their numbers, -1 = without live items."""

    user: I64
    fp48: U64
    author: I32


class Liked(NamedTuple):
    """Authors in k places of merged rows: `user`, `place` int64[k], `author` int32[k]: all that are alike."""

    user: I64
    place: I64
    author: I32


class Lookups:
    """Of U users; each thing is looked up at most once."""

    def __init__(self, users: Users, index: ItemIndex) -> None:
        self._users, self._index = users, index
        self._lists: dict[Relation, tuple[Edges, NDArray[np.uint8]]] = {}
        self._chosen: dict[tuple[Relation, int], Edges] = {}

    def edges(self, relation: Relation, kind: int) -> Edges:
        """The edges to objects of one kind (KIND_AUTHOR, KIND_TOPIC, KIND_KEYWORD)."""
        key = relation, kind
        if key not in self._chosen:
            edges, kinds = self._list(relation)
            if kind == KIND_AUTHOR and not kinds.any():
                self._chosen[key] = edges
            else:
                chosen = (kinds == kind).nonzero()[0]
                self._chosen[key] = Edges(edges.user.take(chosen), edges.fp48.take(chosen))
        return self._chosen[key]

    @cached_property
    def authors(self) -> dict[Relation, AuthorEdges]:
        """The edges to authors by relation, and from each user to themselves ("own"): one look-up for all."""
        lists = {relation: self.edges(relation, KIND_AUTHOR) for relation in _KINDS}
        lists["own"] = Edges(np.arange(len(self._users.fp)), self._users.fp & FP48)
        found = self._index.by_author.get(np.concatenate([edges.fp48 for edges in lists.values()]))
        ends = np.cumsum([len(edges.user) for edges in lists.values()]).tolist()
        return {
            relation: AuthorEdges(*lists[relation], found[begin:end])
            for relation, (begin, end) in zip(lists, pairwise([0, *ends]), strict=True)
        }

    @cached_property
    def ring_slots(self) -> I64:
        """int64[U, 16]: the items in the places of the rings, -1 = not live (or an empty place)."""
        fps: U64 = self._users.merged["ring_fp"]
        return self._index.lookup(fps.reshape(-1)).astype(np.int64).reshape(fps.shape)

    @cached_property
    def liked(self) -> Liked:
        """The authors in the merged rows' lists, as far as they have live items."""
        fp32 = self._users.merged["author_fp"]
        user, place = true_places(fp32 != 0)
        which, author = self._index.by_author.alike(fp32[user, place].astype(np.uint64))
        return Liked(user.take(which), place.take(which), author)

    @property
    def followees(self) -> AuthorEdges:
        """The authors whom the users follow, whether they have items or not."""
        return self.authors["follows"]

    def _list(self, relation: Relation) -> tuple[Edges, NDArray[np.uint8]]:
        if relation not in self._lists:
            rows = self._users.graph
            edges_of, kinds_of = attrgetter(relation), attrgetter(_KINDS[relation])
            lists = list(map(edges_of, rows))
            user = np.arange(len(rows)).repeat(list(map(len, lists)))
            kinds = np.concatenate(list(map(kinds_of, rows)))
            self._lists[relation] = Edges(user, np.concatenate(lists) >> _DAY_BITS), kinds
        return self._lists[relation]
