"""What time it is for ranking: stream time while behind, wall clock once caught up, never backwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


def now_ms() -> int:
    """The wall clock, ms since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class StreamClock:
    """`as_of` of one worker, ms.

    `wall_ms` reads the wall clock, or is None for a job that only knows stream time (a rebuild of old data,
    a test). Stream time is the running maximum of event time over the worker's shards.

    >>> clock = StreamClock(wall_ms=lambda: 5_000)
    >>> clock.advance(1_000); clock.as_of_ms(caught_up=False), clock.as_of_ms(caught_up=True)
    (1000, 5000)
    >>> clock.as_of_ms(caught_up=False)
    5000
    """

    wall_ms: Callable[[], int] | None
    stream_ms: int = 0
    _last_ms: int = 0

    def advance(self, event_ms: int) -> None:
        """Stream time has reached `event_ms`."""
        self.stream_ms = max(self.stream_ms, event_ms)

    def as_of_ms(self, caught_up: bool) -> int:
        """The time to rank at."""
        now = self.stream_ms
        if caught_up and self.wall_ms is not None:
            now = max(now, self.wall_ms())
        self._last_ms = max(self._last_ms, now)
        return self._last_ms

    def watermark_ms(self, stream_ms: int, caught_up: bool) -> int:
        """Up to where a shard has all its input; idle and caught up, it follows the wall clock."""
        if caught_up and self.wall_ms is not None:
            return max(stream_ms, self.wall_ms())
        return stream_ms
