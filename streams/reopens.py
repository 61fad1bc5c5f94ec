"""How often shards may be lost and opened again before somebody has to look (2, 4)."""

from __future__ import annotations

import time

from streams.checkpoint import ShardLost
from streams.errors import ExitCode, OperatorError

REOPENS_PER_MINUTE_MAX = 6
"""Of each shard."""
MINUTE_S = 60.0


class Reopens:
    """Counts those of one job's shards."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at_s: list[float] = []

    def count(self, why: ShardLost, others: int) -> None:
        """One more, with so many others open. Raises OperatorError (fenced) when they are too many.

        `streams.blame` asks whether a topic is gone, before the worker ends with that.
        """
        now_s = time.monotonic()
        self._at_s = [at for at in self._at_s if now_s - at < MINUTE_S] + [now_s]
        if len(self._at_s) > REOPENS_PER_MINUTE_MAX * max(others, 1):
            raise OperatorError(
                f"{self._source}: shards are lost again and again (last: {why}); look for a second "
                "worker with this namespace outside the group, and at the brokers' logs",
                ExitCode.FENCED,
            )
