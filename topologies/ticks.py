"""When a tick of item statistics may close (4): every sender's watermark has passed it, or the grace is over.

A tick is `TICK_MS` of stream time. Item rows are sums that do not depend on order, so closing early costs
freshness of one tick and never correctness: later deltas join the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

NEVER = -1
HELD_MS_MAX = 600_000
ALWAYS_MS = 1 << 62


@dataclass(slots=True)
class TickGate:
    """Watermarks of all senders (one per partition of activities) and the last tick closed. `positions`: the
    offset in each partition of activities up to where the sums contain it.

    Times are ms; `now_ms` is of a clock that never goes back: grace and pace depend on it. `strict` is a
    tick that must not be closed by grace, because `feedrank settle` waits for all its input (up to
    `strict_ends`, by partition), nor followed by another while it ranks; `asked_ms`: when it was last known
    whether there is one. Between two ticks lie at least `pace_ms`: a backlog runs through hundreds of ticks a
    second, and nobody reads them.

    >>> gate = TickGate(senders=2, tick_ms=10, grace_ms=1000)
    >>> gate.heard(0, 35); gate.closable(now_ms=0) is None
    True
    >>> gate.heard(1, 22); gate.closable(now_ms=1)
    2
    """

    senders: int
    tick_ms: int
    grace_ms: int
    closed: int = NEVER
    watermarks: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    strict: int | None = None
    strict_ends: Mapping[int, int] = field(default_factory=dict)
    asked_ms: int = ALWAYS_MS
    pace_ms: int = 0
    _closed_at_ms: int | None = None
    _ahead: int = NEVER
    _ahead_since_ms: int = 0
    _held_since_ms: int | None = None

    def __post_init__(self) -> None:
        if not self.watermarks:
            self.watermarks = [NEVER] * self.senders
        if not self.positions:
            self.positions = [0] * self.senders
        if len(self.watermarks) != self.senders:
            raise ValueError(
                f"state knows {len(self.watermarks)} senders, activities have {self.senders} partitions; "
                "a change of the partition count is a replay into a new namespace"
            )

    def heard(self, sender: int, watermark_ms: int, position: int = 0) -> None:
        """A checkpoint of `sender` said that all its activities up to `watermark_ms` are in, and all before
        offset `position`."""
        self.watermarks[sender] = max(self.watermarks[sender], watermark_ms)
        self.positions[sender] = max(self.positions[sender], position)

    def closable(self, now_ms: int) -> int | None:
        """The newest tick that may close now, or None."""
        if self._held(now_ms):
            return None
        complete = min(self.watermarks) // self.tick_ms
        if self.strict is not None and self.closed < self.strict:
            complete = min(
                complete, self.strict if contain(self.positions, self.strict_ends) else self.strict - 1
            )
        asked_for = self.strict is not None and complete >= self.strict > self.closed
        if self._closed_at_ms is not None and now_ms < self._closed_at_ms + self.pace_ms and not asked_for:
            return None
        if complete > self.closed:
            return complete
        return self._by_grace(now_ms)

    def _held(self, now_ms: int) -> bool:
        """Whether the tick that was asked for is closed and the request still open: all are ranked at it.

        A command that died leaves its request behind, so not for ever.
        """
        if self.strict is None or self.closed < self.strict:
            self._held_since_ms = None
            return False
        if self._held_since_ms is None:
            self._held_since_ms = now_ms
        return now_ms < self._held_since_ms + HELD_MS_MAX

    def _by_grace(self, now_ms: int) -> int | None:
        ahead = max(self.watermarks) // self.tick_ms
        if self.strict is not None and self.closed < self.strict:
            ahead = min(ahead, self.strict - 1)
        if ahead <= self.closed:
            return None
        if self._ahead <= self.closed:
            self._ahead, self._ahead_since_ms = ahead, now_ms
        if self.asked_ms <= self._ahead_since_ms:
            return None  # a watermark may be ahead because of a request that is not known here yet
        waited = min(self._ahead, ahead)
        return waited if now_ms - self._ahead_since_ms >= self.grace_ms else None

    def close(self, tick: int, now_ms: int) -> None:
        """`tick` is published."""
        if tick <= self.closed:
            raise ValueError(f"tick {tick} closes after {self.closed}; ticks only go forward")
        self.closed, self._closed_at_ms = tick, now_ms


def contain(positions: Sequence[int], ends: Mapping[int, int]) -> bool:
    """Whether all activities before `ends` (by partition) are in what was made of those before positions."""
    return all(positions[partition] >= end for partition, end in ends.items())


@dataclass(frozen=True, slots=True)
class TickMark:
    """A tick that the owner of a partition of item deltas closed: its statistics contain all activities
    before `positions` (by partition of activities), and none from there on."""

    tick: int
    as_of_ms: int
    positions: tuple[int, ...]
    item_partition: int

    @classmethod
    def parse(cls, value: bytes) -> TickMark:
        """Raises ValueError for what is none."""
        try:
            record = orjson.loads(value)
            tick, partition = int(record["tick"]), int(record["item_partition"])
            return cls(tick, int(record["as_of_ms"]), tuple(map(int, record["positions"])), partition)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no marker of a tick ({type(error).__name__}: {error})") from error


def tick_marker(tick: int, as_of_ms: int, positions: Sequence[int], item_partition: int) -> bytes:
    """A `TickMark` as it is written: the record that ends the statistics of a tick."""
    return orjson.dumps(
        {"tick": tick, "as_of_ms": as_of_ms, "positions": positions, "item_partition": item_partition}
    )


def tick_of(as_of_ms: int, tick_ms: int) -> int:
    """The first tick whose end is not before `as_of_ms`."""
    return -(-as_of_ms // tick_ms)


def settled(markers: Sequence[int], tick: int) -> bool:
    """True when every partition of item-features carries a marker of `tick` or later."""
    return all(marker >= tick for marker in markers)
