"""A silent broker is told once, also in /readyz, and so is its return."""

from __future__ import annotations

import pytest

from streams.health import Health
from topologies.broker_watch import SILENT_MS_MAX, BrokerWatch


def test_silence_is_told_once_and_ends_with_the_first_answer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    answered: list[int | None] = [None]
    health = Health()
    watch = BrokerWatch("kafka:9092", lambda: answered[-1], health)
    watch.look(1_000)
    answered.append(1_000)
    late_ms = 1_000 + SILENT_MS_MAX
    watch.look(late_ms)
    assert "kafka" not in health.reasons

    watch.look(late_ms + 1)
    assert "kafka" not in health.reasons, "once may be a process that was frozen"
    for at_ms in range(late_ms + 1_000, late_ms + 60_000, 1_000):
        watch.look(at_ms)
    assert "kafka:9092 has not answered for 64 s" in health.reasons["kafka"]
    assert len(caplog.records) == 1

    answered.append(late_ms + 60_000)
    watch.look(late_ms + 60_001)
    assert "kafka" not in health.reasons
    assert [record.getMessage() for record in caplog.records][1:] == ["Kafka answers again"]
