"""One shard of a replay (2, 4): what streams.shard.Shard is to the live steps, without broker and tasks.

A checkpoint is one file that RocksDB takes over whole: rows, position, and how long the delta log is.
Whatever dies when, the next run finds rows and position of one moment, and cuts off what was sent after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

import orjson

from streams.durable import POSITION_KEY, Message
from streams.errors import ExitCode, OperatorError
from streams.shard import S
from streams.store import ShardStore

MARK_KEY = b"!replay"
"""Key of the record beside the position: what else a shard must know to go on."""
CHECKPOINT_SHARE = 0.03
"""Of the work: a checkpoint that took 1 s of CPU is followed by the next one after half a minute of it."""
CHECKPOINT_S_MIN = 5.0
Mark = dict[str, int]


@dataclass(slots=True)
class Spent:
    """CPU seconds of steps: all, of checkpoints, of these the last ones, which write the result."""

    cpu_s: float = 0.0
    checkpoint_s: float = 0.0
    result_s: float = 0.0

    def add(self, more: Spent) -> None:
        """What other steps took."""
        self.cpu_s += more.cpu_s
        self.checkpoint_s += more.checkpoint_s
        self.result_s += more.result_s


class LocalShard(Generic[S]):
    """`state`, whose write-back is a WrittenAtOnce, and its RocksDB. `sent(messages)` takes what a cut sends
    before its rows are written and returns the mark to write with them. `seconds`: CPU of checkpoints."""

    closed = False

    def __init__(
        self,
        topic: str,
        partition: int,
        state: S,
        store: ShardStore,
        sent: Callable[[Sequence[Message]], Mark],
    ) -> None:
        self.topic, self.partition, self.state, self.store = topic, partition, state, store
        self.highwater = self.next_offset = 0
        self.seconds = 0.0
        self._sent = sent
        self._checkpointed_s, self._took_s = time.process_time(), 0.0

    def restore(self) -> Mark | None:
        """Go on from the last checkpoint; None: there is none.

        Raises OperatorError for rows of another version.
        """
        position, mark = self.store.get_many([POSITION_KEY, MARK_KEY])
        if position is None or mark is None:
            return None
        try:
            self.state.restore([(POSITION_KEY, position)])
        except ValueError as error:
            raise OperatorError(f"{self.store.path}: {error}", ExitCode.DATA_DIRECTORY) from error
        found: Mark = orjson.loads(mark)
        return found

    @property
    def checkpoint_due(self) -> bool:
        """Whether enough was done since the last checkpoint for its cost not to matter: in CPU seconds, as a
        kill costs what was done, and a slow machine does little in a minute."""
        pause_s = max(CHECKPOINT_S_MIN, self._took_s / CHECKPOINT_SHARE)
        return time.process_time() - self._checkpointed_s >= pause_s

    def checkpoint(self) -> float:
        """Write all that is applied; the CPU seconds of it. Raises OperatorError when the disk does not take
        it."""
        started_s = time.process_time()
        cut = self.state.cut(0)
        if not cut.nothing:
            mark = self._sent(cut.messages)
            there = [(key, value) for key, value in cut.rows if value is not None]
            self.store.write_whole([*there, (MARK_KEY, orjson.dumps(mark))])
            self.state.committed(cut)
            self.state.flushed([])
        self._checkpointed_s = time.process_time()
        self._took_s = self._checkpointed_s - started_s
        self.seconds += self._took_s
        return self._took_s

    async def cut_now(self) -> None:
        """Nothing: the live shard keeps its transactions short by this, and there is none here."""

    async def flush_now(self) -> None:
        """As the live shard's: all that is applied is on disk, and pins no row any more."""
        self.checkpoint()
