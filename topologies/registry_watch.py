"""Tells that records wait for the schema registry (1): in /readyz, and to the watchdog, while it lasts."""

from __future__ import annotations

from dataclasses import dataclass

from streams.health import Health
from streams.loop_watch import Progress

PART = "schema registry"


@dataclass(frozen=True, slots=True)
class RegistryWatch:
    """What a `Registry` calls as `told`: a partition that waits stands still on purpose."""

    health: Health
    progress: Progress

    def __call__(self, why: str | None) -> None:
        """`why` it does not answer; None: it does again."""
        if why is None:
            self.health.ready(PART)
            self.progress.goes_on(PART)
        else:
            self.health.not_ready(PART, why)
            self.progress.waits_for(PART, why)
