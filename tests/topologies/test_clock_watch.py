"""Stream time that is ahead of the wall clock is told once, with where it comes from, and so is its end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streams.limits import CLOCK_AHEAD_MS_MAX
from topologies.clock import StreamClock
from topologies.clock_watch import ClockWatch

NOW_MS = 1_790_000_000_000
IN_2090_MS = 3_800_000_000_000


def users(**stream_ms: int) -> Any:
    """Shards p0, p1, ... that stand at these times."""
    return SimpleNamespace(
        shards={int(p[1:]): SimpleNamespace(state=SimpleNamespace(stream_ms=t)) for p, t in stream_ms.items()}
    )


def test_it_is_told_once_with_the_partition_and_once_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    now_ms = [NOW_MS]
    clock = StreamClock(lambda: now_ms[-1])
    watch = ClockWatch(clock, users(p1=IN_2090_MS, p0=NOW_MS))
    clock.advance(NOW_MS + CLOCK_AHEAD_MS_MAX)
    watch.look()
    assert caplog.records == [], "phones may be that much ahead"

    clock.advance(IN_2090_MS)
    for _ in range(3):
        watch.look()
    (said,) = caplog.records
    text = str(said.__dict__)
    assert said.levelname == "WARNING"
    assert "stream time is ahead of this machine's clock" in said.getMessage()
    assert "'partitions': '1'" in text
    assert "2090-06-01T" in text

    now_ms.append(IN_2090_MS - 1)
    watch.look()
    now_ms.append(IN_2090_MS)
    watch.look()
    assert [one.levelname for one in caplog.records] == ["WARNING", "INFO"]


def test_a_worker_that_knows_no_time_but_the_streams_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    clock = StreamClock(None)
    clock.advance(IN_2090_MS)
    ClockWatch(clock, users(p0=IN_2090_MS)).look()
    assert caplog.records == []
