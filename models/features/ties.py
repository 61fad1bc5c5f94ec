"""What a slice's users have to do with authors and with topics (8, 10): each pair that matters has a code.

Few pairs matter, and many candidates share one: what depends on a user and an author (a topic) is worked out
by code and read by candidate.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.features.interests import VALUES
from models.features.pairs import pair_codes
from models.fingerprint import FP32
from models.graph import KIND_TOPIC
from models.lookups import Relation
from models.order import true_places

if TYPE_CHECKING:
    from models.features.scene import Scene

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

FOLLOWED, OWN, MUTED, BLOCKED = 1, 2, 4, 8
"""Bits of `marks`."""

MARKS: dict[Relation, int] = {"follows": FOLLOWED, "mutes": MUTED, "blocks": BLOCKED, "own": OWN}


class AuthorTies:
    """`code` int32[U, C]: of each candidate's user and author, 0 = they have nothing to do with each other.

    By code: `marks` uint8[ties], bits FOLLOWED, OWN, MUTED, BLOCKED; `liking` float64[5, ties] by VALUES.
    """

    def __init__(self, scene: Scene) -> None:
        authors = scene.index.by_author
        tied = [scene.lookups.authors[relation] for relation in MARKS]
        known = [np.flatnonzero(edges.author >= 0) for edges in tied]
        fans = [edges.user.take(some) for edges, some in zip(tied, known, strict=True)]
        groups = [edges.author.take(some) for edges, some in zip(tied, known, strict=True)]
        liked, interests = scene.lookups.liked, scene.interests
        ring_user, place = interests.known_entries
        number = scene.index.author.take(interests.ring_slots[ring_user, place])
        which, recent = authors.alike(scene.index.author_fp.take(number) & FP32)
        ring_user, place = ring_user.take(which), place.take(which)
        ends = np.cumsum([*map(len, fans), len(liked.user)])
        user = np.concatenate([*fans, liked.user, ring_user])
        group = np.concatenate([*groups, liked.author, recent])
        codes, self.code = pair_codes(authors, user, group, scene.author)
        size = len(codes) + 1
        self.marks: U8 = np.zeros(size, np.uint8)
        for mark, (begin, end) in zip(MARKS.values(), pairwise([0, *ends.tolist()]), strict=False):
            self.marks[codes[begin:end]] |= np.uint8(mark)
        self.liking: F64 = np.zeros((len(VALUES), size))
        self.liking[:3, codes[ends[-2] : ends[-1]]] = interests.long("author")[:, liked.user, liked.place]
        self.liking[3:] = interests.short(codes[ends[-1] :], ring_user, place, size)

    def value(self, name: str) -> F64:
        """float64[ties]: one of VALUES."""
        row: F64 = self.liking[VALUES.index(name)]
        return row


class TopicTies:
    """`cell` int64[k <= 4, U, C]: of each candidate's user and topics. Topics that any of the slice's users
    has to do with have cells of their own; each user's first cell is for all others, and for none.

    By cell: `marks` uint8[cells], bits FOLLOWED, MUTED, BLOCKED; `liking` float64[5, cells] by VALUES.
    """

    def __init__(self, scene: Scene) -> None:
        interests, topics = scene.interests, scene.index.by_topic
        ring_user, place = interests.known_entries
        recent = scene.index.topics.take(interests.ring_slots[ring_user, place], axis=0)
        entry, which = true_places(recent >= 0)
        held_user, held_place = true_places(interests.rows["topic_fp"] != 0)
        tied = [scene.lookups.edges(name, KIND_TOPIC) for name in ("follows", "mutes", "blocks")]
        fp32 = [interests.rows["topic_fp"][held_user, held_place].astype(np.uint64), *(fp for _, fp in tied)]
        number = np.concatenate([topics.get(np.concatenate(fp32)), recent[entry, which]])
        user = np.concatenate([held_user, *(owner for owner, _ in tied), ring_user[entry]])
        local, asked = topics.numbered(number[number >= 0], number, scene.topics)
        width = int(local.max(initial=0)) + 1
        first = np.arange(scene.shape[0]) * width
        cell = first[user] + local
        self.cell: I64 = asked + first[:, None]
        size = scene.shape[0] * width
        self.liking: F64 = np.zeros((len(VALUES), size))
        self.marks: U8 = np.zeros(size, np.uint8)
        ends = np.cumsum([len(part) for part in fp32])
        self.liking[:3, cell[: ends[0]]] = interests.long("topic")[:, held_user, held_place]
        self.liking[3:] = interests.short(cell[ends[-1] :], ring_user[entry], place[entry], size)
        for mark, (begin, end) in zip((FOLLOWED, MUTED, BLOCKED), pairwise(ends), strict=True):
            self.marks[cell[begin:end]] |= np.uint8(mark)
        self.liking[:, ::width] = 0.0
        self.marks[::width] = 0

    def value(self, name: str) -> F64:
        """float64[cells]: one of VALUES."""
        row: F64 = self.liking[VALUES.index(name)]
        return row
