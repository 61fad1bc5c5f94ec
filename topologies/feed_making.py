"""From rows to feeds as they are stored (7 to 11): a slice of users ranked on every surface, and encoded.

What an item says of itself and why it is there are encoded once and kept; a feed joins those parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from models.candidates import SOURCE_NAMES
from models.context import UserBatch
from models.item_index import ItemIndex
from models.policy import Policy
from models.ranked_feed import RankedFeed
from models.ranker import Ranker
from models.score import Scorer
from streams.feeds import FeedToWrite
from topologies.user_shard import UserShard
from wire.chunks import Entries, item_part, reason_part
from wire.version import Version

I64 = NDArray[np.int64]
PARTS_KEPT_MAX = 200_000
FEED_TOPICS = 3


@dataclass(frozen=True, slots=True)
class ItemsKnown:
    """Items that an index held, by partition of `items`: those before these offsets. `listed`: when its lists
    were made; `now`: when it was ranked from."""

    listed: tuple[int, ...]
    now: tuple[int, ...]

    def record(self) -> dict[str, object]:
        """Fields of the served log."""
        came = {
            str(partition): end
            for partition, end in enumerate(self.now)
            if partition >= len(self.listed) or end != self.listed[partition]
        }
        return {"items_listed": self.listed, "items_since": came}


@dataclass(frozen=True, slots=True)
class MadeFeed:
    """A feed to write and what it was made of. `ids`: item ids of its entries."""

    feed: FeedToWrite
    ranked: RankedFeed
    ids: Sequence[str]
    known: ItemsKnown | None = None

    def record(self) -> bytes:
        """The record in the served log; docs/wire.md lists its fields."""
        ranked = self.ranked
        version = Version.parse(ranked.version)
        explored = np.flatnonzero(ranked.explored)
        record = {
            "actor": self.feed.user,
            "surface": ranked.surface,
            "version": ranked.version,
            "position": version.position,
            "tick": version.tick,
            "as_of_ms": ranked.as_of_ms,
            "seed": str(ranked.seed),
            "policy": ranked.policy,
            "model": ranked.model,
            "items": list(self.ids),
            "scores": ranked.scores,
            "sources": ranked.sources.astype(np.int64),
            "changed": ranked.changed.astype(np.int64),
            "explored": explored,
            "propensities": ranked.propensity[explored],
            "dropped": ranked.dropped,
            "candidates": ranked.candidates,
            "failed": sorted(ranked.failed),
        }
        if self.known is not None:
            record |= self.known.record()
        if ranked.slate[0]:
            record["slate"] = ranked.slate
        if ranked.features is not None and ranked.featured is not None:
            record["featured"] = ranked.featured
            record["features"] = ranked.features.astype(np.int64)
        return orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY)


@dataclass(frozen=True, slots=True)
class SliceOfUsers:
    """Users as they were when their rows were copied; `positions`: of their shards, then."""

    users: UserBatch
    positions: list[int]


@dataclass(slots=True)
class FeedMaker:
    """`generation`: of the stored versions; readers put the route's in its place where that is greater."""

    policy: Policy
    index: ItemIndex
    seed: int
    generation: int = 1
    ranker: Ranker = field(init=False)
    _parts: dict[int, bytes] = field(default_factory=dict)
    _reasons: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ranker = Ranker(self.policy, self.index, self.seed)

    def use(self, scorer: Scorer) -> None:
        """Rank with another model from the next slice on. Codes of reasons are the model's own."""
        self.ranker.use(scorer)
        self._reasons.clear()

    def make(self, state: UserShard, users: list[bytes], tick: int, as_of_ms: int) -> list[MadeFeed]:
        """Feeds of up to USERS_MAX users of one shard; see `make_all`."""
        return self.make_all([(state, users)], tick, as_of_ms)

    def make_all(
        self, parts: Sequence[tuple[UserShard, list[bytes]]], tick: int, as_of_ms: int
    ) -> list[MadeFeed]:
        """Feeds of up to USERS_MAX users of any shards, whose rows are in memory, on every surface.

        One slice is ranked at once: a user alone costs five times as much as one of sixteen.
        """
        batch = self.batch(parts)
        if batch is None:
            return []
        return [
            made for surface in self.policy.surfaces for made in self.ranked(batch, surface, tick, as_of_ms)
        ]

    def batch(self, parts: Sequence[tuple[UserShard, list[bytes]]]) -> SliceOfUsers | None:
        """Copies of the rows of up to USERS_MAX users of any shards; None when no row is in memory."""
        users: list[bytes] = []
        rows, seen, graph, positions = [], [], [], []
        for state, asked in parts:
            slots, _ = state.rows.arena.lookup(asked)
            known = [user for user, slot in zip(asked, slots.tolist(), strict=True) if slot >= 0]
            slots = slots[slots >= 0]
            users += known
            positions += [state.position] * len(known)
            rows.append(state.rows.arena.rows[slots])
            seen += [state.rows.seen.entries(slot) for slot in slots.tolist()]
            graph += [state.rows.graphs.get(slot) for slot in slots.tolist()]
        if not users:
            return None
        whole = np.concatenate(rows)
        return SliceOfUsers(UserBatch.of(users, whole, seen, graph, self.index, self.policy.verbs), positions)

    def ranked(
        self,
        batch: SliceOfUsers,
        surface: str,
        tick: int,
        as_of_ms: int,
        known: ItemsKnown | None = None,
    ) -> list[MadeFeed]:
        """Feeds of a batch on one surface; `tick`: what the index was last refreshed at, now."""
        versions = [
            str(Version(self.generation, position, max(tick, 0), as_of_ms)) for position in batch.positions
        ]
        feeds = self.ranker.rank(batch.users, surface, versions, as_of_ms)
        return [self._made(feed, known) for feed in feeds]

    def _made(self, ranked: RankedFeed, known: ItemsKnown | None) -> MadeFeed:
        items = ranked.items.tolist()
        entries = Entries(self._item_parts(items), ranked.scores.tolist(), self._reason_parts(ranked))
        feed = FeedToWrite(
            ranked.user.decode(),
            ranked.surface,
            ranked.version,
            ranked.as_of_ms,
            ranked.as_of_ms + self.policy.feed.stale_after_s * 1_000,
            ranked.policy,
            ranked.model,
            entries,
            self._topics(ranked.items),
        )
        ids = self.index.ids
        return MadeFeed(feed, ranked, [ids[item] for item in items], known)

    def _topics(self, items: I64) -> tuple[str, ...]:
        """The topics that the feed's entries carry most often (equal ones by id), for after its end."""
        counts = Counter(self.index.topics[items].ravel().tolist())
        ids = self.index.topic_ids
        named = [(-n, ids[t]) for t, n in counts.items() if t >= 0]
        return tuple(name for _, name in sorted(named)[:FEED_TOPICS])

    def _item_parts(self, items: list[int]) -> list[bytes]:
        known = list(map(self._parts.get, items))
        if None in known:
            if len(self._parts) >= PARTS_KEPT_MAX:
                self._parts.clear()
            self._parts |= {item: entry_of(self.index, item) for item in items if item not in self._parts}
            known = [self._parts[item] for item in items]
        return known  # type: ignore[return-value]  # those that were None are there now

    def _reason_parts(self, ranked: RankedFeed) -> list[bytes]:
        codes = list(zip(ranked.source.tolist(), ranked.reason.tolist(), strict=True))
        known = list(map(self._reasons.get, codes))
        if None in known:
            for source, code in set(codes) - self._reasons.keys():
                why = ranked.explainer.texts(code)
                self._reasons[source, code] = reason_part(SOURCE_NAMES[source], why)
            known = [self._reasons[code] for code in codes]
        return known  # type: ignore[return-value]

    def forget(self, items: Iterable[int]) -> None:
        """These slots hold other items, or items that say something else of themselves."""
        for item in items:
            self._parts.pop(item, None)


def entry_of(index: ItemIndex, item: int) -> bytes:
    """What an item says of itself in an entry."""
    topics = tuple(index.topic_ids[t] for t in index.topics[item].tolist() if t >= 0)
    author = index.author_ids[int(index.author[item])]
    return item_part(index.ids[item], author, int(index.created_ms[item]), index.title[item], topics)


def plain_entries(index: ItemIndex, items: NDArray[np.int32], source: str) -> Entries:
    """Entries that are there for one reason, best first, with their rank as the score."""
    live = [item for item in items.tolist() if index.live[item]]
    reason = reason_part(source, (source.replace("_", " "),))
    scores = [float(score) for score in range(len(live), 0, -1)]
    return Entries([entry_of(index, item) for item in live], scores, [reason] * len(live))
