"""Rows of a shard written by someone else than its worker (2), in a way that no worker can race.

The shard's own transactional id is taken over first: from then on every commit of a worker is refused, and it
begins anew from the changelog. Only what the changelog says after that is read and mended, and rows and
position go into one transaction. If a worker takes the shard over in between, ours is refused as a whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from streams.checkpoint import Checkpointer, ShardLost, ShardNames
from streams.durable import POSITION_KEY, Cut, Row
from streams.errors import ExitCode, OperatorError
from streams.settings import Settings
from streams.store import ShardStore
from topologies.stored_rows import Table
from wire.names import ACTIVITIES, Namespace

Mend = Callable[[], Awaitable[tuple[Mapping[bytes, bytes | None], bytes | None]]]
"""Reads the shard and returns the rows to write (None deletes) and its position record."""


@dataclass(slots=True)
class _Mended:
    """A streams.durable.ShardState that has one checkpoint to make."""

    rows: Sequence[Row] = ()
    position: int = 0
    number: int = field(default=0)

    def cut(self, epoch: int) -> Cut:
        """All at once; then nothing more."""
        self.number += 1
        rows, self.rows = self.rows, ()
        return Cut(self.number, self.position, rows)

    def committed(self, cut: Cut) -> None:
        """Nothing to remember."""

    def flush_slice(self, rows_max: int) -> list[Row]:
        """No RocksDB of anybody's is touched: workers read the changelog."""
        return []

    def flushed(self, rows: list[Row]) -> None:
        """Never called with rows."""

    def skip_to(self, offset: int) -> None:
        """Never called."""

    def restore(self, rows: list[Row]) -> None:
        """Never called."""


async def mend_shard(
    settings: Settings, names: Namespace, partition: int, mend: Mend, table: Table = "users"
) -> int:
    """Fence the shard of one partition of a table, ask `mend`, write; returns how many rows were written.

    Raises OperatorError: no answer, or somebody took the shard over.
    """
    sources = {"users": ACTIVITIES, "item-rows": names.item_deltas}
    changelogs = {"users": names.users_changelog, "item-rows": names.item_rows_changelog}
    source = sources[table]
    shard = ShardNames(source, changelogs[table], partition, names.transactional_id(source, partition))
    with tempfile.TemporaryDirectory(prefix="feedrank-repair-") as directory:
        store, state = ShardStore(Path(directory) / "rows"), _Mended()
        checkpointer = Checkpointer(shard, state, store, settings.kafka, settings.checkpoint)
        try:
            await checkpointer.fence()
            rows, position = await mend()
            if not rows or position is None:
                return 0
            record = orjson.loads(position)
            record["epoch"] = int(record["epoch"]) + 1
            state.position = int(record["position"])
            state.rows = [*rows.items(), (POSITION_KEY, orjson.dumps(record))]
            await checkpointer.cut_now()
            return len(rows)
        except ShardLost as error:
            raise OperatorError(
                f"{error}; nothing of this partition was mended: a worker has taken it over. Stop the "
                f"workers of {names.name} and repair again",
                ExitCode.FENCED,
            ) from error
        finally:
            await checkpointer.close()
            store.close()
