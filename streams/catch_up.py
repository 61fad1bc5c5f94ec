"""How one shard gets its rows (before 2 and 4): from RocksDB and changelog, or by finding that nothing
changed."""

from __future__ import annotations

from typing import Generic

from streams.checkpoint import ShardNames
from streams.durable import POSITION_KEY, Position, Row
from streams.errors import ExitCode, OperatorError
from streams.recovery import Replay
from streams.shard import S, Shard

RESTORED_BYTES_MAX = 256 << 20
"""Of one shard's replayed rows that wait for RocksDB in memory; beyond, they are written while replaying."""


class Restore(Generic[S]):
    """Fills the state of a new shard from RocksDB and changelog."""

    def __init__(self, shard: Shard[S]) -> None:
        self._shard = shard
        self._position: bytes | None = None
        self._waiting = 0  # bytes

    def replay(self) -> Replay:
        """Start with what RocksDB has."""
        names, store = self._shard.names, self._shard.store
        self._position = store.get(POSITION_KEY)
        if self._position is not None:
            self._give([(POSITION_KEY, self._position)])
        return Replay(names.changelog, names.partition, store.meta.changelog_next, self._restore, self._ahead)

    async def _restore(self, rows: list[Row], next_offset: int) -> None:
        self._give(rows)
        for key, value in reversed(rows):
            if key == POSITION_KEY:
                self._position = value
                break
        checkpoints = self._shard.checkpoints
        checkpoints.changelog_next = next_offset
        self._waiting += sum(len(value) for _, value in rows if value)
        if self._waiting > RESTORED_BYTES_MAX:
            self._waiting = 0
            await checkpoints.flush()

    def _give(self, rows: list[Row]) -> None:
        try:
            self._shard.state.restore(rows)
        except ValueError as error:
            raise OperatorError(f"{self._shard.names}: {error}", ExitCode.DATA_DIRECTORY) from error

    def _ahead(self) -> None:
        raise OperatorError(
            f"{self._shard.names}: the rows in {self._shard.store.path} are newer than their changelog "
            f"{self._shard.names.changelog}, so the topic was emptied or made anew; restore the topic, or "
            "delete the directory to go on from what the topic holds",
            ExitCode.DATA_DIRECTORY,
        )

    def finish(self, changelog_next: int) -> None:
        """Everything is replayed: say where the shard stands."""
        checkpoints = self._shard.checkpoints
        checkpoints.changelog_next = changelog_next
        if self._position is not None:
            found = Position.decode(self._position)
            checkpoints.position, checkpoints.epoch = found.offset, found.epoch
        checkpoints.epoch += 1


class Compare(Generic[S]):
    """Looks whether anybody has written to the changelog of a shard since it was ours."""

    def __init__(self, shard: Shard[S]) -> None:
        self._shard, self.stale = shard, False

    def replay(self) -> Replay:
        names, checkpoints = self._shard.names, self._shard.checkpoints
        return Replay(
            names.changelog, names.partition, checkpoints.changelog_next, self._restore, self._ahead
        )

    async def _restore(self, rows: list[Row], next_offset: int) -> None:
        self.stale = self.stale or bool(rows)

    def _ahead(self) -> None:
        self.stale = True


def stand(shard: Shard[S], start: int, end: int) -> None:
    """Where the shard goes on, now that it has its rows. `start`, `end`: what the source has now.

    Raises OperatorError (position) when the source does not have that any more.
    """
    position = shard.checkpoints.position
    if position is None:
        shard.state.skip_to(start)
        position = shard.checkpoints.position = start
    if not start <= position <= end:
        raise OperatorError(_outside(shard.names, position, start, end), ExitCode.POSITION_OUTSIDE_LOG)
    shard.next_offset, shard.highwater = position, end
    shard.checkpoints.begun = True


def _outside(names: ShardNames, position: int, start: int, end: int) -> str:
    said = f"{names}: the changelog says to go on at offset {position}, but the log "
    if position < start:
        return said + (
            f"begins at {start}: {start - position} records were deleted unread. Restore them, or rebuild "
            "from all that is kept into a new namespace (docs/operations.md); raise the topic's retention.ms"
        )
    return said + (
        f"ends at {end}: the topic was emptied or made anew. Restore it, or rebuild into a new namespace "
        "(docs/operations.md)"
    )
