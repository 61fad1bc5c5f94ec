"""Tells when Kafka has gone silent (all steps): once in the log, and in /readyz for as long as it lasts.

Kafka's client goes on trying by itself and narrates every attempt, hundreds of lines a second; those are not
shown, this one line is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from streams.health import Health
from streams.log import logger

LOOK_EVERY_S = 1.0
SILENT_MS_MAX = 5_000
"""A reader that waits for items gets an empty answer every 20 ms."""
PART = "kafka"

log = logger(__name__)


@dataclass(slots=True)
class BrokerWatch:
    """`answered_ms`: wall clock (ms) of the last answer that a tailing reader got, None: none yet."""

    address: str
    answered_ms: Callable[[], int | None]
    health: Health
    _suspected: bool = False

    async def run(self) -> None:
        """Look every second, for ever."""
        while True:
            self.look(time.time_ns() // 1_000_000)
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self, now_ms: int) -> None:
        """Silence counts when it is found twice: a process that was frozen hears of the brokers first."""
        answered_ms = self.answered_ms()
        if answered_ms is None:
            return
        silent_ms = now_ms - answered_ms
        suspected, self._suspected = self._suspected, silent_ms > SILENT_MS_MAX
        if not self._suspected:
            self._heard()
        elif suspected:
            self._silent(silent_ms / 1_000)

    def _heard(self) -> None:
        if PART in self.health.reasons:
            log.info("Kafka answers again")
            self.health.ready(PART)

    def _silent(self, silent_s: float) -> None:
        why = (
            f"Kafka at {self.address} has not answered for {silent_s:.0f} s; check the brokers: until they "
            "answer nothing comes in, and nothing is lost"
        )
        if PART not in self.health.reasons:
            log.warning(why)
        self.health.not_ready(PART, why)
