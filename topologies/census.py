"""Which users a shard knows: for takeover, a Redis that came back empty, and settle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.users import USER_ROW
from streams.durable import Row
from streams.store import ShardStore
from topologies.user_shard import UserShard

CHUNK_USERS = 256


@dataclass(frozen=True, slots=True)
class Known:
    """k users: ids, when they last did something, and when they last did something that makes them due, in
    ms (int64[k])."""

    ids: list[bytes]
    newest_ms: NDArray[np.int64]
    signal_ms: NDArray[np.int64]

    def active_since(self, ms: int) -> Known:
        """Those who did something after `ms`."""
        chosen = np.flatnonzero(self.newest_ms > ms)
        ids = [self.ids[i] for i in chosen.tolist()]
        return Known(ids, self.newest_ms[chosen], self.signal_ms[chosen])


def known_users(state: UserShard, store: ShardStore) -> Iterator[Known]:
    """Every user of the shard once, in chunks of at most CHUNK_USERS; rows in memory are read there.

    Users who come while it runs may be left out: they are made due by what they do. Raises StoreClosed when
    the shard is given up while it runs.
    """
    in_memory, done = list(state.rows.arena.ids), set[bytes]()
    for start in range(0, len(in_memory), CHUNK_USERS):
        keys = in_memory[start : start + CHUNK_USERS]
        slots, _ = state.rows.arena.lookup(keys)
        there = slots >= 0  # some may have been evicted since: they are in RocksDB now
        keys = [key for key, here in zip(keys, there.tolist(), strict=True) if here]
        done.update(keys)
        yield Known(keys, *_times(state.rows.arena.rows[slots[there]]))
    if state.rows.resident:
        return
    for chunk in _stored(state, store):
        fresh = {key[1:]: value for key, value in chunk if key[1:] not in done and value is not None}
        done |= fresh.keys()
        if fresh:
            yield Known(list(fresh), *_times(np.frombuffer(b"".join(fresh.values()), USER_ROW)))


def _stored(state: UserShard, store: ShardStore) -> Iterator[list[Row]]:
    """Rows not yet in RocksDB, then RocksDB's."""
    waiting: list[Row] = list(state.rows.back.rows(b"u"))
    for start in range(0, len(waiting), CHUNK_USERS):
        yield waiting[start : start + CHUNK_USERS]
    for chunk in store.scan(b"u", CHUNK_USERS):
        yield list(chunk)


def _times(rows: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return rows["newest_ms"].astype(np.int64), rows["signal_ms"].astype(np.int64)
