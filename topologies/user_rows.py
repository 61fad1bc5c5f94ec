"""The rows of one partition's users in memory (2), and what is on its way to the changelog and RocksDB.

What is needed of RocksDB is asked for and handed in (`make_resident`), so that nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.arena import Arena
from models.columns import ActivityColumns
from models.followers import Followers
from models.graph import KIND_AUTHOR, GraphRow, Graphs
from models.seen import SeenPages
from models.users import USER_ROW, Applied
from models.verbs import Role, VerbTable
from models.writeback import WriteBack
from streams.durable import Row

I64 = NDArray[np.int64]
EVICT_SHARE = 8  # an eighth of the arena leaves at once, so that evictions are rare and vectorised
GRAPHS_AT_ONCE = 1_000
SEEN_PAGE = 64
SEEN_PAGES_MAX = 8
SEEN_PAGE_BYTES = SEEN_PAGE * 8
DAY_MS = 86_400_000
_PAGE_TAGS = [b"s" + bytes([number]) for number in range(SEEN_PAGES_MAX)]


@dataclass(slots=True)
class UserRows:
    """Rows by arena slot, at most `rows_max` in memory.

    `resident` is True while every row of the shard is in the arena, so that an unknown key is a new user.
    `ranked_ms` int64[slots]: when (as_of) the feed was last made, 0 = not since the row came into memory; it
    is no part of any row.
    """

    rows_max: int
    resident: bool = False
    arena: Arena = field(init=False)
    seen: SeenPages = field(init=False)
    graphs: Graphs = field(default_factory=Graphs)
    followers: Followers = field(default_factory=Followers)
    back: WriteBack = field(default_factory=WriteBack)
    ranked_ms: I64 = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        self.arena, self.seen = Arena(USER_ROW, b"u", self.rows_max), SeenPages(self.rows_max)

    def reserved(self) -> list[tuple[NDArray[Any], int]]:
        """See Arena.reserved."""
        return self.arena.reserved() + self.seen.reserved(self.arena.top)

    # -- in and out of memory ------------------------------------------------------------------------

    def make_resident(
        self, keys: Sequence[bytes], read: Mapping[bytes, bytes | None] | None = None
    ) -> list[bytes]:
        """Keys (tagged) to read from RocksDB before `keys` can be applied; call again with what was found.

        Call again with all that was `read` (tagged key -> bytes or None) until it returns []: users with seen
        pages take two rounds. Raises ArenaFull when everything is pinned.
        """
        return self.locate(keys, read)[1]

    def locate(
        self, keys: Sequence[bytes], read: Mapping[bytes, bytes | None] | None = None
    ) -> tuple[I64, list[bytes]]:
        """`make_resident`, and the slots int64[n] of `keys` (they hold once nothing is left to read)."""
        slots, missing = self.arena.lookup(keys)
        if not missing.size:
            return slots, []
        absent = [keys[i] for i in missing.tolist()]
        wanted = dict.fromkeys(absent)
        self._make_room(len(wanted), slots[slots >= 0])
        if not self.resident:
            read = {} if read is None else read
            found, unread = self._found(wanted, read)
            if unread:
                return slots, unread
            self._take_over(wanted, found)
        else:
            self.arena.add(list(wanted))
        slots[missing] = self.arena.lookup(absent)[0]
        return slots, []

    def _found(
        self, keys: Iterable[bytes], read: Mapping[bytes, bytes | None]
    ) -> tuple[dict[bytes, bytes], list[bytes]]:
        """What is known of these users' rows (by tagged key), and the tagged keys still to be read."""
        heads = [tag + key for key in keys for tag in (b"u", b"g")]
        found = self._newest(heads, read)
        unread = [key for key in heads if key not in found and key not in read]
        if not unread:
            pages = list(self._page_keys(keys, found))
            found |= self._newest(pages, read)
            unread = [key for key in pages if key not in found and key not in read]
        return found, unread

    def _newest(self, keys: Iterable[bytes], read: Mapping[bytes, bytes | None]) -> dict[bytes, bytes]:
        """Committed bytes that RocksDB does not have yet win over what was read from it."""
        found = {key: value for key in keys if (value := read.get(key)) is not None}
        if self.back.pending:
            found |= {key: value for key in keys if (value := self.back.find(key)) is not None}
        return found

    @staticmethod
    def _page_keys(keys: Iterable[bytes], found: Mapping[bytes, bytes]) -> Iterable[bytes]:
        at = USER_ROW.fields["seen_count"][1]  # type: ignore[index]
        for key in keys:
            row = found.get(b"u" + key)
            if row is not None:
                count = int.from_bytes(row[at : at + 4], "little")
                pages = min(-(-count // SEEN_PAGE), SEEN_PAGES_MAX)
                yield from (b"s" + bytes([n]) + key for n in range(pages))

    def _take_over(self, keys: Iterable[bytes], found: Mapping[bytes, bytes]) -> None:
        known = {key: found[b"u" + key] for key in keys if b"u" + key in found}
        self.arena.insert(keys)
        if not known:
            return
        slots = self.arena.restore(known)
        for key, slot in zip(known, slots.tolist(), strict=True):
            graph = found.get(b"g" + key)
            if graph is not None:
                self.graphs.restore(slot, graph)
                self.followers.add(slot, _authors(self.graphs.get(slot)))
            for page_key in self._page_keys([key], found):
                page = np.array([page_key[1]], np.int64)
                self.seen.restore(
                    np.array([slot], np.int64), page, found.get(page_key) or bytes(SEEN_PAGE_BYTES)
                )

    def _make_room(self, wanted: int, keep: I64) -> None:
        over = len(self.arena) + wanted - self.rows_max
        if over <= 0:
            return
        gone = self.arena.evict(max(over, self.rows_max // EVICT_SHARE), keep)
        if gone.size:
            self.resident = False
            for slot in gone.tolist():
                self.followers.remove(slot, _authors(self.graphs.get(slot)))
            self.seen.release(gone)
            self.graphs.release(gone.tolist())
            self.ranked_ms[gone[gone < self.ranked_ms.size]] = 0

    # -- what a slice does beside the user row ---------------------------------------------------------

    def show(self, applied: Applied, part: ActivityColumns) -> None:
        order = applied.groups.order
        shown = np.flatnonzero(applied.effects.role[order] == Role.EXPOSURE)
        if shown.size:
            at = order[shown]
            day = applied.effects.at_ms[at] // DAY_MS
            undo = applied.effects.undo[at]
            self.seen.apply(self.arena.rows, applied.groups.slot[shown], part.object_fp[at], day, undo)

    def connect(self, applied: Applied, part: ActivityColumns, verbs: VerbTable) -> list[int]:
        """Graph activities; keeps the inverted index of follows in step. Returns the slots that changed."""
        groups = applied.groups
        members = groups.slot[applied.effects.role[groups.order] == Role.GRAPH]
        if not members.size:
            return []
        slots: list[int] = np.unique(members).tolist()
        before = [_authors(self.graphs.get(slot)) for slot in slots]
        self.graphs.apply(part, applied.effects, groups, verbs)
        for slot, old in zip(slots, before, strict=True):
            new = _authors(self.graphs.get(slot))
            self.followers.remove(slot, old - new)
            self.followers.add(slot, new - old)
        return slots

    # -- feeds made -------------------------------------------------------------------------------------

    def was_ranked(self, users: Sequence[bytes], as_of_ms: int) -> None:
        """Feeds of these users were made at `as_of_ms`."""
        more = self.arena.rows.size - self.ranked_ms.size
        if more:
            self.ranked_ms = np.concatenate([self.ranked_ms, np.zeros(more, np.int64)])
        slots, _ = self.arena.lookup(users)
        self.ranked_ms[slots[slots >= 0]] = as_of_ms

    def stale(self, as_of_ms: int, stale_ms: int, active_ms: int) -> I64:
        """Slots of active users whose feed, made since they came into memory, is older than `stale_ms`."""
        ranked = self.ranked_ms[: self.arena.top]
        newest = self.arena.rows["newest_ms"][: ranked.size]
        old = (ranked > 0) & (ranked < as_of_ms - stale_ms) & (newest > as_of_ms - active_ms)
        return np.flatnonzero(old)

    # -- to the changelog and RocksDB ---------------------------------------------------------------------

    def cut(self, number: int) -> tuple[int, Iterator[Sequence[Row]]]:
        """How many rows changed since the last cut, pinned until RocksDB has them; and these rows as they are
        now, some at a time."""
        users, pages, graphs = self.arena.cut_slots(number), self.seen.cut(), self.graphs.cut()
        made: Iterator[Sequence[Row]] = chain(self.arena.copies(), self._pages(), self._graphs(graphs))
        return users.size + pages + len(graphs), made

    def flushed(self, rows: list[Row]) -> None:
        """RocksDB has these rows: what is not dirty again may be evicted."""
        self.back.flushed(rows)
        self.arena.flushed_through = self.back.flushed_through

    def _pages(self) -> Iterator[list[Row]]:
        for slots, numbers, pages in self.seen.copies():
            users = self.arena.ids.keys_at(slots)
            yield [
                (_PAGE_TAGS[number] + user, page)
                for user, number, page in zip(users, numbers.tolist(), pages, strict=True)
            ]

    def _graphs(self, changed: list[tuple[int, bytes]]) -> Iterator[list[Row]]:
        for first in range(0, len(changed), GRAPHS_AT_ONCE):
            slots, rows = zip(*changed[first : first + GRAPHS_AT_ONCE], strict=True)
            users = self.arena.ids.keys_at(np.array(slots, np.int64))
            yield [(b"g" + user, row) for user, row in zip(users, rows, strict=True)]


def _authors(graph: GraphRow) -> set[int]:
    """fp48 of the authors whom a user follows."""
    edges = graph.follows[graph.follow_kinds == KIND_AUTHOR] >> np.uint64(16)
    return set(edges.tolist())
