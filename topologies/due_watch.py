"""Who leaves the due queue without a feed (6): at its bound people are dropped, and somebody must say so."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.due import DueQueue
from streams.log import logger
from streams.metrics import Metrics

OVER_MS = 60_000
"""Nobody was dropped for so long: it is over. A queue at its bound drops some, has room, and drops some."""
WHYS = ("displaced", "refused", "refused_own")
"""Left for somebody more valuable; turned away; turned away after an act of their own, as all who wait."""

log = logger(__name__)


@dataclass(slots=True)
class DueWatch:
    """Tells metrics what the queue counts, and the log when dropping begins and when it is over."""

    metrics: Metrics
    _counted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WHYS, 0))
    _began_ms: int | None = None
    _last_ms: int = 0
    _dropped: int = 0

    def __post_init__(self) -> None:
        for why in WHYS:  # from the start at 0, or the first ones would be no increase
            self.metrics.due_dropped.labels(why)

    def look(self, due: DueQueue[bytes], now_ms: int) -> None:
        """Take over what was counted since the last look, at `now_ms` of a clock that never goes back."""
        others = due.refused - due.refused_own
        now = dict(zip(WHYS, (due.displaced, others, due.refused_own), strict=True))
        if now != self._counted:
            more = {why: count - self._counted[why] for why, count in now.items()}
            self._counted = now
            self.metrics.add_each(self.metrics.due_dropped, more)
            self._drop(sum(more.values()), len(due), now_ms)
        elif self._began_ms is not None and now_ms - self._last_ms >= OVER_MS:
            log.info(
                "nobody is dropped from the due queue any more",
                dropped=self._dropped,
                seconds=(self._last_ms - self._began_ms) // 1_000,
            )
            self._began_ms, self._dropped = None, 0

    def _drop(self, users: int, waiting: int, now_ms: int) -> None:
        if self._began_ms is None:
            self._began_ms = now_ms
            log.warning(
                "the due queue is full: the least valuable are dropped and keep the feed that they have; add "
                "workers, or raise RANK_BUDGET_PER_S and feeds_per_s of the policy",
                waiting=waiting,
            )
        self._last_ms, self._dropped = now_ms, self._dropped + users
