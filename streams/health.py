"""What is up, what is not and why (all steps)."""

from __future__ import annotations

STARTING = "start"


class Health:
    """What readiness depends on: each part states why it is not ready, and withdraws it.

    >>> health = Health()
    >>> health.not_ready("redis", "connection refused")
    >>> sorted(health.reasons)
    ['redis', 'start']
    >>> health.ready("start"); health.ready("redis"); health.is_ready
    True
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {STARTING: "the worker is starting"}
        self.dead: str | None = None

    def not_ready(self, part: str, why: str) -> None:
        """`part` (start, recovery, redis, policy, ...) cannot work because of `why`."""
        self.reasons[part] = why

    def ready(self, part: str) -> None:
        """`part` works (again)."""
        self.reasons.pop(part, None)

    def died(self, why: str) -> None:
        """The process cannot mend itself: /livez fails, and a supervisor restarts it."""
        self.dead = why

    @property
    def is_ready(self) -> bool:
        return not self.reasons and self.dead is None
