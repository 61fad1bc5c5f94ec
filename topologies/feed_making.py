"""From rows to feeds as they are stored (7 to 11): a slice of users ranked on every surface, and encoded.

What an item says of itself and why it is there are encoded once and kept; a feed joins those parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate

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
from topologies.feed_topics import most_carried
from topologies.kept_parts import KeptParts
from topologies.user_shard import UserShard
from wire.chunks import Entries, item_part, reason_part
from wire.version import Version

I64 = NDArray[np.int64]
PARTS_KEPT_MAX = 200_000


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
        explored = ranked.explored.nonzero()[0]
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
    _parts: KeptParts[bytes] = field(default_factory=partial(KeptParts[bytes], PARTS_KEPT_MAX))
    _ids: KeptParts[str] = field(default_factory=partial(KeptParts[str], PARTS_KEPT_MAX))
    _reasons: KeptParts[bytes] = field(default_factory=partial(KeptParts[bytes], PARTS_KEPT_MAX))

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
        version_at = {
            position: str(Version(self.generation, position, max(tick, 0), as_of_ms))
            for position in set(batch.positions)
        }
        versions = [version_at[position] for position in batch.positions]
        feeds = self.ranker.rank(batch.users, surface, versions, as_of_ms)
        return self._made(feeds, known)

    def _made(self, ranked: Sequence[RankedFeed], known: ItemsKnown | None) -> list[MadeFeed]:
        """What entries are made of is looked up for all feeds at once: most of it costs per call."""
        items = np.concatenate([one.items for one in ranked])
        parts = self._parts.take(items, lambda item: entry_of(self.index, item))
        reasons = self._reason_parts(ranked)
        ids = self._ids.take(items, self.index.ids.__getitem__)
        lengths = [len(one) for one in ranked]
        feed = np.repeat(np.arange(len(ranked)), lengths)
        topics = most_carried(self.index.topics[items], feed, len(ranked), self.index.topic_ids)
        ends = accumulate(lengths)
        made = []
        for one, end, its_topics in zip(ranked, ends, topics, strict=True):
            own = slice(end - len(one), end)
            entries = Entries(parts[own], one.scores, reasons[own])  # type: ignore[arg-type]  # an array
            made.append(MadeFeed(self._to_write(one, entries, its_topics), one, ids[own], known))
        return made

    def _to_write(self, ranked: RankedFeed, entries: Entries, topics: tuple[str, ...]) -> FeedToWrite:
        return FeedToWrite(
            ranked.user.decode(),
            ranked.surface,
            ranked.version,
            ranked.as_of_ms,
            ranked.as_of_ms + self.policy.feed.stale_after_s * 1_000,
            ranked.policy,
            ranked.model,
            entries,
            topics,
        )

    def _reason_parts(self, ranked: Sequence[RankedFeed]) -> list[bytes]:
        """One model explains all feeds of a slice."""
        explainer = ranked[0].explainer

        def made(number: int) -> bytes:
            code, source = divmod(number, len(SOURCE_NAMES))
            return reason_part(SOURCE_NAMES[source], explainer.texts(code))

        code = np.concatenate([one.reason for one in ranked])
        source = np.concatenate([one.source for one in ranked])
        return self._reasons.take(code * len(SOURCE_NAMES) + source, made)

    def forget(self, items: NDArray[np.signedinteger]) -> None:
        """These slots hold other items, or items that say something else of themselves."""
        self._parts.forget(items)
        self._ids.forget(items)


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
