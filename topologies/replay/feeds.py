"""Settled feeds of one partition (5 to 11), and where they go: Redis, or a RocksDB of the shadow."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import orjson

from models.users import USER_ROW
from streams.concerns import RedisSettings
from streams.errors import ExitCode, OperatorError
from streams.feeds import FeedToWrite, FeedWriter, Outcome
from streams.redis_link import RedisUnavailableError
from streams.store import ShardStore
from topologies.catalogue import Catalogue
from topologies.feed_making import FeedMaker
from topologies.replay.models import scorer_of_shadow
from topologies.replay.shard import LocalShard
from topologies.replay.steps import Moved, Steps
from topologies.user_shard import UserShard
from wire.names import ACTIVITIES, Namespace
from wire.route import point

DAY_MS = 86_400_000
REDIS_TRIES = 10
WRITTEN_AT_ONCE = 64
SCAN_USERS = 1_000
DONE_KEY = b"!feeds"
"""The last user in key order whose feeds are where they belong."""
_LENGTH = struct.Struct("<I")

Head = dict[bytes, bytes]
"""A feed's fields as Redis holds them."""


class FeedSink(Protocol):
    """Takes feeds of users in key order; writing one again is harmless. `done`: the last user of before.
    `keep`: all that was written is where nothing takes it away."""

    @property
    def done(self) -> bytes: ...
    async def write(self, feeds: Sequence[FeedToWrite], last: bytes) -> None: ...
    def keep(self) -> None: ...
    async def close(self) -> None: ...


class RedisSink:
    """Feeds under the shadow's namespace in Redis, past the fence; `users` remembers how far."""

    def __init__(self, settings: RedisSettings, names: Namespace, users: ShardStore) -> None:
        self._writer = FeedWriter(settings, names)
        self._users = users
        self._tries = 0

    @property
    def done(self) -> bytes:
        """See FeedSink."""
        return self._users.get(DONE_KEY) or b""

    async def write(self, feeds: Sequence[FeedToWrite], last: bytes) -> None:
        """Raises OperatorError when Redis stays away or refuses a feed."""
        self._tries = 0
        outcomes = await self._writer.write_patiently(feeds, self._waiting)
        refused = [
            feed for feed, outcome in zip(feeds, outcomes, strict=True)
            if outcome not in (Outcome.WRITTEN, Outcome.ALREADY)
        ]  # fmt: skip
        if refused:
            raise OperatorError(
                f"Redis has a newer feed of {len(refused)} users, or refuses their keys: something else "
                "writes this namespace. Stop it and delete its feeds, or replay into another namespace",
                ExitCode.REDIS_UNREACHABLE,
            )
        self._users.write([(DONE_KEY, last)])

    def _waiting(self, error: RedisUnavailableError) -> None:
        self._tries += 1
        if self._tries > REDIS_TRIES:
            raise OperatorError(
                f"Redis does not answer ({error}); check REDIS_URL, then resume the job: no feed is lost",
                ExitCode.REDIS_UNREACHABLE,
            ) from error

    def keep(self) -> None:
        """Redis has them."""

    async def close(self) -> None:
        """Close connections."""
        await self._writer.close()


class FileSink:
    """Feeds in a RocksDB: key surface, zero byte, user; value the head's fields as `encode_head` has them."""

    def __init__(self, path: Path) -> None:
        self._store = ShardStore(path)

    @property
    def done(self) -> bytes:
        """See FeedSink."""
        return self._store.get(DONE_KEY) or b""

    async def write(self, feeds: Sequence[FeedToWrite], last: bytes) -> None:
        """Raises OperatorError when the disk does not take them."""
        rows = [(feed_key(one.surface, one.user), encode_head(head_of(one))) for one in feeds]
        self._store.write([*rows, (DONE_KEY, last)])

    def keep(self) -> None:
        """Raises OperatorError when the disk does not take them; they are made again then."""
        self._store.flush()

    async def close(self) -> None:
        """Let go of the directory."""
        self._store.close()


def feed_key(surface: str, user: str) -> bytes:
    """Sorts by surface, then user."""
    return f"{surface}\0{user}".encode()


def head_of(feed: FeedToWrite) -> Head:
    """The fields that the fence writes of a feed."""
    head = {
        b"version": feed.version.encode(),
        b"generated_at": b"%d" % feed.generated_at_ms,
        b"stale_after": b"%d" % feed.stale_after_ms,
        b"policy": feed.policy.encode(),
        b"model": feed.model.encode(),
        b"count": b"%d" % len(feed.entries),
    }
    if feed.topics:
        head[b"topics"] = orjson.dumps(feed.topics)
    return head | {b"p%d" % i: chunk for i, chunk in enumerate(feed.entries.chunks())}


def encode_head(head: Head) -> bytes:
    """Fields in the order of their names: length and bytes of each name and value (uint32, little endian)."""
    return b"".join(_LENGTH.pack(len(text)) + text for name in sorted(head) for text in (name, head[name]))


def decode_head(value: bytes) -> Head:
    """The way back."""
    texts, at = list[bytes](), 0
    while at < len(value):
        (size,) = _LENGTH.unpack_from(value, at)
        at += _LENGTH.size
        texts.append(value[at : at + size])
        at += size
    return dict(zip(texts[::2], texts[1::2], strict=True))


def chooser(text: str) -> Callable[[str], bool]:
    """Whose feeds to make: `` everyone's, `1%` those whose draw is below it, `@FILE` one id a line, else ids
    by commas. Raises OperatorError for what is none of these.

    >>> chooser("ann,bob")("bob"), chooser("")("anyone")
    (True, True)
    """
    if not text:
        return lambda user: True
    if text.endswith("%"):
        try:
            share = float(text[:-1]) / 100
        except ValueError:
            share = -1.0
        if not 0 < share <= 1:
            raise OperatorError(f"--users {text}: no share above 0 % and up to 100 %; write for example 1%")
        return lambda user: point("replay", user) < share
    if text.startswith("@"):
        try:
            chosen = {line.strip() for line in Path(text[1:]).read_text(encoding="utf-8").splitlines()}
        except (OSError, UnicodeDecodeError) as error:
            raise OperatorError(f"--users {text}: {error}; name a file with one user id a line") from error
        return chosen.__contains__
    return set(text.split(",")).__contains__


async def settle_feeds(steps: Steps, partition: int, as_of_ms: int, moved: Moved) -> bool:
    """Rank every active user of one partition at the settled tick; False when stopped before the end."""
    catalogue = await steps.settled_catalogue(as_of_ms)
    store = ShardStore(steps.shadow.users(partition))
    sink = sink_of(steps, partition, store)
    try:
        state = steps.open_users(partition, store, catalogue.index)
        shard = LocalShard(ACTIVITIES, partition, state, store, lambda messages: {})
        shard.restore()
        state.position = steps.definition.resume(partition)
        return await _rank_all(steps, shard, catalogue, sink, as_of_ms, moved)
    finally:
        await sink.close()
        store.close()


def sink_of(steps: Steps, partition: int, users: ShardStore) -> FeedSink:
    """Where the definition wants feeds."""
    if steps.definition.sink == "redis":
        return RedisSink(steps.settings.redis, steps.definition.names, users)
    return FileSink(steps.shadow.feeds(partition))


async def _rank_all(
    steps: Steps,
    shard: LocalShard[UserShard],
    catalogue: Catalogue,
    sink: FeedSink,
    as_of_ms: int,
    moved: Moved,
) -> bool:
    policy = steps.policy
    maker = FeedMaker(policy, catalogue.index, int(policy.hash, 16), steps.definition.generation)
    maker.use(scorer_of_shadow(steps.shadow, policy))
    wanted = chooser(steps.definition.users)
    for users in _active(shard.store, as_of_ms - policy.feed.active_days * DAY_MS, sink.done):
        feeds: list[FeedToWrite] = []
        chosen = [user for user in users if wanted(user.decode())]
        for start in range(0, len(chosen), steps.settings.ranking.users_max):
            some = chosen[start : start + steps.settings.ranking.users_max]
            _make_resident(shard, some)
            feeds += [one.feed for one in maker.make(shard.state, some, catalogue.tick, as_of_ms)]
        await sink.write(feeds, users[-1])
        if not moved(len(users)):
            return False
    sink.keep()
    return True


def _active(users: ShardStore, since_ms: int, done: bytes) -> Iterator[list[bytes]]:
    """Users who did something after `since_ms`, in key order, those up to `done` left out."""
    held = list[bytes]()
    for chunk in users.scan(b"u", SCAN_USERS):
        newest = np.frombuffer(b"".join(value for _, value in chunk), USER_ROW)["newest_ms"].tolist()
        held += [
            key[1:] for (key, _), ms in zip(chunk, newest, strict=True) if ms > since_ms and key[1:] > done
        ]
        while len(held) >= WRITTEN_AT_ONCE:
            yield held[:WRITTEN_AT_ONCE]
            held = held[WRITTEN_AT_ONCE:]
    if held:
        yield held


def count_active(steps: Steps, partition: int, as_of_ms: int) -> int:
    """How many users of a partition get feeds; of those that `--users` chooses from."""
    store = ShardStore(steps.shadow.users(partition))
    try:
        return sum(map(len, _active(store, as_of_ms - steps.policy.feed.active_days * DAY_MS, b"")))
    finally:
        store.close()


def _make_resident(shard: LocalShard[UserShard], users: list[bytes]) -> None:
    """Rows of these users in memory; nothing is ever dirty here, so there is always room."""
    read: dict[bytes, bytes | None] = {}
    wanted = shard.state.rows.make_resident(users)
    while wanted:
        read |= zip(wanted, shard.store.get_many(wanted), strict=True)
        wanted = shard.state.rows.make_resident(users, read)
