"""How many rows a shard holds, for operators (2, 4): counted once a second, 50 us for 200,000 users."""

from __future__ import annotations

from collections.abc import Mapping

from streams.metrics import Metrics
from streams.shard import Shard
from topologies.item_shard import ItemShard
from topologies.user_shard import UserShard

DIRTY, UNFLUSHED = "dirty", "unflushed"
"""Changed since the last checkpoint began; committed and not in RocksDB yet."""


def count_users(metrics: Metrics, shard: Shard[UserShard]) -> None:
    """Users, seen pages and graph rows in memory, and how many of them wait."""
    rows = shard.state.rows
    dirty = rows.arena.dirty_rows() + rows.seen.dirty_pages() + len(rows.graphs.dirty)
    tables = {"users": len(rows.arena), "seen": rows.seen.pages, "graph": len(rows.graphs)}
    _tell(metrics, shard.topic, shard.partition, tables, {DIRTY: dirty, UNFLUSHED: rows.back.pending})


def count_items(metrics: Metrics, shard: Shard[ItemShard]) -> None:
    """Rows of item statistics in memory, and how many of them wait."""
    state = shard.state
    waiting = {DIRTY: state.arena.dirty_rows(), UNFLUSHED: state.back.pending}
    _tell(metrics, shard.topic, shard.partition, {"items": len(state.arena)}, waiting)


def _tell(
    metrics: Metrics, topic: str, partition: int, tables: Mapping[str, int], waiting: Mapping[str, int]
) -> None:
    for table, rows in tables.items():
        metrics.set(metrics.rows, rows, topic, partition, table)
    for state, rows in waiting.items():
        metrics.set(metrics.pending_rows, rows, topic, partition, state)
