"""Item index (5): all live items in memory as columns, with what candidates, features and merges ask of them.

All that is read from it is a function of the set of live items and of their derived records (and, for the
lists made by a refresh, of that refresh's tick and as_of), never of the order in which they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from weakref import WeakSet

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.cells import CELL_ITEMS_MAX, Cells
from models.fingerprint import FP32, fp64, fp64s
from models.hash_index import HashIndex
from models.item_columns import (
    EMBEDDING_DIM,
    ENGAGER_BITS_MASK,
    Attributes,
    ItemColumns,
    ItemRecord,
    Watcher,
    check,
    distinct_topics,
)
from models.items import DERIVED
from models.postings import Postings
from models.refresh import Lists, build_lists, oldest
from models.statistics import Statistics
from models.top_pool import TopPool
from models.trending import trend_scores
from models.waiting import Waiting

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

ITEMS_LIVE_MAX = 1_000_000
EVICTION_SLACK_PERCENT = 1
AUTHOR_NEWEST = 20
AUTHOR_KEY_BITS = 48
"""Follow edges hold 48 bits of an author: authors that agree in them are one."""

TOPIC_KEY_BITS = 32
"""Affinities hold 32 bits of a topic: likewise."""

_NO_EMBEDDING = np.zeros(EMBEDDING_DIM, np.int8)


class ItemIndex(ItemColumns):
    """Columns by slot, and what finds items in them. At most `items_max` are live: beyond, the oldest by
    (created_ms, fp) leave at each refresh, and at once when there are 1 % more.

    `by_author`, `by_topic`: ids, newest items, sums (models.postings). `statistics.total`: sums over all.
    `lists`: of the last refresh (models.refresh). An item can be a candidate as soon as `upsert` returns.
    """

    def __init__(self, items_max: int = ITEMS_LIVE_MAX) -> None:
        self.items_max = items_max
        self._slack = max(1, items_max * EVICTION_SLACK_PERCENT // 100)
        super().__init__(items_max + 2 * self._slack + 1_024)
        self.by_author = Postings(AUTHOR_KEY_BITS, AUTHOR_NEWEST, AUTHOR_NEWEST, self.recency)
        self.by_topic = Postings(TOPIC_KEY_BITS, CELL_ITEMS_MAX, 0, self.recency)
        self.statistics = Statistics(self.by_author, self.by_topic)
        self._cells: dict[int, Cells] = {}
        self._watchers: WeakSet[Watcher] = WeakSet()
        self.waiting = Waiting()
        self.lists = Lists()
        self.evicted = 0
        self._index = HashIndex()

    @property
    def author_fp(self) -> U64:
        """uint64[a]: by the numbers in `author`."""
        return self.by_author.fp

    @property
    def author_ids(self) -> list[str]:
        return self.by_author.ids

    @property
    def topic_fp(self) -> U64:
        """uint64[t]: by the numbers in `topics`."""
        return self.by_topic.fp

    @property
    def topic_ids(self) -> list[str]:
        return self.by_topic.ids

    def __len__(self) -> int:
        return len(self._index)

    def cells(self, depth: int) -> Cells:
        """The `depth` <= CELL_ITEMS_MAX newest items by topic, with embeddings (models.cells)."""
        if depth not in self._cells:
            self._cells = {depth: Cells(self, self.by_topic, depth)}
        return self._cells[depth]

    def watch(self, watcher: Watcher) -> None:
        """Tell it what changes, for as long as it lives."""
        self._watchers.add(watcher)

    def lookup(self, fps: ArrayLike) -> I32:
        """int32[k]: the slots of k items, -1 = not live."""
        return self._index.get(fps)

    def attributes(self, fps: U64) -> Attributes:
        """What a merge of engagements asks of k items."""
        slots = self.lookup(fps)
        known, at = slots >= 0, np.maximum(slots, 0)
        embedding = self.embedding.take(at, axis=0) * known[:, None]
        author = self.by_author.fp.take(np.maximum(self.author.take(at), 0))
        topics = self.topics.take(at, axis=0)
        topic = np.where(topics >= 0, self.by_topic.fp.take(np.maximum(topics, 0)), np.uint64(0))
        return Attributes(
            known,
            np.where(known, author & FP32, 0).astype(np.uint32),
            np.where(known[:, None], topic & FP32, 0).astype(np.uint32),
            embedding,
        )

    def upsert(self, records: Iterable[ItemRecord]) -> None:
        """Add or replace items; of one given twice the last counts.

        Raises ValueError for a record outside its limits, before anything changed.
        """
        wanted = {fp64(r.item_id.encode()): r for r in records}
        for record in wanted.values():
            check(record)
        fps = np.fromiter(wanted, np.uint64, len(wanted))
        slots = self.lookup(fps).tolist()
        placed = [s for s, r in zip(slots, wanted.values(), strict=True) if s >= 0 and not self._same(s, r)]
        self._detach(np.array(placed, np.int64))
        moving = set(placed)
        for place, slot in enumerate(slots):
            if slot < 0:
                slots[place] = self.take()
                moving.add(slots[place])
        self._index.insert(fps, slots)
        self._write(np.array(slots, np.int64), fps, list(wanted.values()))
        self._attach({s: r for s, r in zip(slots, wanted.values(), strict=True) if s in moving})
        self.apply_derived(*self.waiting.claim(fps))
        self._settle()

    def remove(self, fps: ArrayLike) -> int:
        """Remove items; unknown ones are ignored. Their derived records wait, should they come back."""
        slots = np.unique(self.lookup(fps))
        slots = slots[slots >= 0]
        known = self.derived[slots]
        self.waiting.put(self.fp[slots][known["tick"] > 0], known[known["tick"] > 0])
        self._drop(slots.astype(np.int64))
        return len(slots)

    def apply_derived(self, fps: U64, records: NDArray[np.void]) -> None:
        """DERIVED[k] of k items; per item the record with the largest tick counts (tick 0 = no record)."""
        order = np.argsort(records["tick"], kind="stable")[::-1]
        fps, first = np.unique(fps[order], return_index=True)
        records = records[order[first]]
        slots = self.lookup(fps)
        self.waiting.put(fps[slots < 0], records[slots < 0])
        newer = (slots >= 0) & (records["tick"] >= self.derived["tick"][slots])
        self._derive(slots[newer], records[newer])

    def remove_derived(self, fps: U64) -> None:
        """The owners forgot k items: their records are zeros again."""
        self.waiting.drop(fps)
        slots = np.unique(self.lookup(fps))
        slots = slots[slots >= 0]
        self._derive(slots, np.zeros(len(slots), DERIVED))

    def refresh(self, tick: int, as_of_ms: int) -> None:
        """Evict, and make the lists anew as of a tick and a time."""
        for _ in self.refreshing(tick, as_of_ms):
            pass

    def refreshing(self, tick: int, as_of_ms: int) -> Iterator[None]:
        """The same in slices: yields after at most a few ms; one refresh at a time, run to its end.

        Changes between slices may or may not be in the lists; the next refresh has them.
        """
        if len(self) > self.items_max:
            yield from self._evicting()
        marks = [(s, s.mark()) for s in (self.slots, self.by_author.slots, self.by_topic.slots)]
        built: list[Lists] = []
        yield from build_lists(self, self.by_topic.slots.high, tick, as_of_ms, built)
        self.lists = built[0]
        for slots, before in marks:
            slots.reuse(before)

    def _evicting(self) -> Iterator[None]:
        victims: list[U64] = []
        yield from oldest(self, len(self) - self.items_max, victims)
        for start in range(0, len(victims[0]), 256):
            slots = self.lookup(victims[0][start : start + 256])
            self._drop(slots[slots >= 0].astype(np.int64))
            self.evicted += int((slots >= 0).sum())
            yield

    def _same(self, slot: int, record: ItemRecord) -> bool:
        """Whether only text changes: then no list does."""
        topics = [self.by_topic.ids[t] for t in self.topics[slot].tolist() if t >= 0]
        embedding = _NO_EMBEDDING if record.embedding is None else record.embedding
        return (
            self.created_ms.item(slot) == record.created_ms
            and self.by_author.ids[self.author.item(slot)] == record.author
            and topics == [identifier for identifier, _ in distinct_topics(record)]
            and bool(self.has_embedding[slot] == (record.embedding is not None))
            and bool((self.embedding[slot] == embedding).all())
        )

    def _write(self, slots: I64, fps: U64, records: list[ItemRecord]) -> None:
        self.fp[slots], self.live[slots] = fps, True
        self.created_ms[slots] = [r.created_ms for r in records]
        self.has_embedding[slots] = [r.embedding is not None for r in records]
        self.entitle(slots, [r.title for r in records])
        vectors = np.array([_NO_EMBEDDING if r.embedding is None else r.embedding for r in records])
        self.embedding[slots] = vectors.reshape(-1, EMBEDDING_DIM)
        for slot, record in zip(slots.tolist(), records, strict=True):
            self.ids[slot], self.title[slot], self.kind[slot] = record.item_id, record.title, record.kind
        vectors = self.embedding[slots].astype(np.int64)
        self.embedding_square[slots] = (vectors * vectors).sum(axis=1)

    def _attach(self, items: dict[int, ItemRecord]) -> None:
        """Enter written items, by slot, into the postings and sums."""
        slots = np.fromiter(items, np.int32, len(items))
        created_ms, fps = self.created_ms[slots], self.fp[slots]
        authors = [record.author for record in items.values()]
        self.author[slots] = author = self.by_author.intern(authors, fp64s(map(str.encode, authors)))
        self.by_author.add(author, slots, created_ms, fps)
        topics = [distinct_topics(record) for record in items.values()]
        sizes = np.array([len(its) for its in topics], np.int64)
        its_fps = np.array([fp for its in topics for _, fp in its], np.uint64)
        group = self.by_topic.intern([identifier for its in topics for identifier, _ in its], its_fps)
        item = np.repeat(np.arange(len(slots)), sizes)
        self.by_topic.add(group, slots[item], created_ms[item], fps[item])
        self.topics[slots] = -1
        self.topics[slots[item], np.arange(len(item)) - (np.cumsum(sizes) - sizes)[item]] = group
        self.topics_most = max([self.topics_most, *sizes.tolist()])
        self.by_author.show()
        self.by_topic.show()
        self._sum(slots, 1)
        self._tell(slots)

    def _detach(self, slots: I64) -> None:
        """Take items out of the postings and sums, before their columns change."""
        self._sum(slots, -1)
        authors, topics = self.author[slots].tolist(), self.topics[slots].tolist()
        for slot, author, its_topics in zip(slots.tolist(), authors, topics, strict=True):
            self.by_author.remove(author, slot)
            for topic in its_topics:
                if topic >= 0:
                    self.by_topic.remove(topic, slot)
        self.by_author.show()
        self.by_topic.show()
        self.author[slots] = self.topics[slots] = -1
        self._tell(slots)

    def _drop(self, slots: I64) -> None:
        self._detach(slots)
        self._index.delete(self.fp[slots])
        self.derived[slots] = 0
        self.clear(slots)
        self._settle()

    def _settle(self) -> None:
        """Complete the newest items of authors and topics after removals; evict when far too many."""
        self.by_author.refill(lambda g, n: self._newest(self.author[: self.slots.high] == g, n))
        self.by_topic.refill(lambda g, n: self._newest((self.topics[: self.slots.high] == g).any(1), n))
        if len(self) > self.items_max + self._slack:
            for _ in self._evicting():
                pass

    def _newest(self, members: NDArray[np.bool_], count: int) -> I32:
        pool, items = TopPool(count), np.flatnonzero(members).astype(np.int32)
        pool.add(self.created_ms[items], self.fp[items], items)
        return pool.ranked()[::-1]

    def _derive(self, slots: I32, records: NDArray[np.void]) -> None:
        self._sum(slots, -1)
        self.derived[slots] = records
        self.trend[slots] = trend_scores(records["h1"], records["h24"])
        self.engager_bits[slots] = records["engagers"] >> np.uint64(16) & np.uint64(ENGAGER_BITS_MASK)
        self._sum(slots, 1)
        self._tell(slots)

    def _tell(self, slots: NDArray[np.signedinteger]) -> None:
        for watcher in self._watchers:
            watcher.changed(slots)

    def _sum(self, slots: NDArray[np.signedinteger], sign: int) -> None:
        """Add or take away what some items contribute to the sums."""
        known = slots[self.derived["tick"][slots] > 0]
        if len(known):
            self.statistics.add(sign, self.derived[known], self.author[known], self.topics[known])
