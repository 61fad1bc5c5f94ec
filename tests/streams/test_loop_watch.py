"""The loop's watch and the watchdog's judge: what is held, by whom, and when nothing moves."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from streams.loop_watch import Judge, LoopWatch, Progress, Watchdog, standing_lines
from streams.metrics import Metrics
from tests.waiting import GUARD_S


def block(seconds: float) -> None:
    """Compute for so long, whatever else runs on these cores."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@contextmanager
def watched(metrics: Metrics, hold_ms_max: int = 10) -> Iterator[LoopWatch]:
    """Loops of this thread are watched within the block."""
    watch = LoopWatch(metrics, hold_ms_max)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


@pytest.fixture
def each_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every long hold is logged: on a busy machine the first one may be another's."""
    monkeypatch.setattr("streams.loop_watch.WARN_EVERY_S", 0.0)


@pytest.mark.usefixtures("each_told")
def test_a_long_callback_is_measured_and_named(caplog: pytest.LogCaptureFixture) -> None:
    async def greedy() -> None:
        block(0.03)

    metrics = Metrics()
    original = asyncio.events.Handle._run
    with watched(metrics) as watch, caplog.at_level(logging.WARNING):
        watch.start()
        asyncio.run(greedy())
    assert asyncio.events.Handle._run is original
    # on a busy machine others hold the loop too
    ((by, longest_s),) = [one for one in metrics.longest_hold_s.items() if one[0].endswith("greedy")]
    assert longest_s >= 0.03
    assert metrics.value("feedrank_loop_hold_max_seconds", by=by) == longest_s
    assert metrics.value("feedrank_loop_held_seconds_total", by=by) == longest_s
    (said,) = [record for record in caplog.records if record.fields["by"] == by]
    assert said.getMessage() == "the event loop was held; feeds and fetches waited meanwhile"
    assert 10 < said.fields["cpu_ms_at_most"] <= said.fields["held_ms"]


@pytest.mark.usefixtures("each_told")
@pytest.mark.parametrize(
    ("name", "work", "advice"),
    [
        ("ingest topic partition 0", block, "smaller slices keep it free (INGEST_RECORDS_MAX)"),
        ("ingest topic partition 0", time.sleep, "it hardly computed: other processes on these cores"),
        ("checkpoints", block, "feeds and fetches waited meanwhile"),
    ],
)
def test_the_advice_is_about_what_held_it(
    name: str, work: Callable[[float], None], advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def hold() -> None:
        await asyncio.sleep(0)
        work(0.05)

    async def named() -> None:
        await asyncio.create_task(hold(), name=name)

    with watched(Metrics()), caplog.at_level(logging.WARNING):
        asyncio.run(named())
    said = [record.getMessage() for record in caplog.records if record.fields["by"].startswith(name)]
    assert any(advice in one for one in said), said


def test_loops_of_other_threads_are_let_be() -> None:
    async def elsewhere() -> None:
        block(0.03)

    metrics = Metrics()
    with watched(metrics):
        other = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        other.start()
        other.join()
    assert not metrics.longest_hold_s


def test_a_hold_is_charged_to_what_ran() -> None:
    async def inner() -> None:
        await asyncio.sleep(0)
        block(0.005)
        await asyncio.sleep(0)

    async def _guarded() -> None:
        await inner()

    async def both() -> None:
        named = asyncio.create_task(inner(), name="ingest topic partition 0")
        await asyncio.gather(named, _guarded())

    metrics = Metrics()
    with watched(metrics, hold_ms_max=1_000):
        asyncio.run(both())
    ours = {by.rpartition(".")[2] for by in metrics.longest_hold_s}
    assert {"ingest", "inner"} <= ours


def test_short_callbacks_are_not_holds() -> None:
    """One time of many: whoever takes the processor away meanwhile makes any callback long."""

    def longest_s() -> float:
        metrics = Metrics()
        with watched(metrics):
            asyncio.run(asyncio.sleep(0))
        return max(metrics.longest_hold_s.values(), default=0.0)

    assert min(longest_s() for _ in range(50)) < 0.03


def progress_at(moved: int, lag: int, beat_s: float) -> Progress:
    progress = Progress()
    progress.moved("apply", 0, moved)
    progress.lag("apply", 0, lag)
    progress.beat_s = beat_s
    return progress


def test_standing_still_with_growing_lag_is_a_stall() -> None:
    judge = Judge(stall_s=10)
    assert judge.verdict(progress_at(5, 100, 0), 0) is None
    assert judge.verdict(progress_at(5, 150, 5), 5) is None
    said = judge.verdict(progress_at(5, 200, 10), 10)
    assert said == "nothing moved for 10 s while lag grew from 100 to 200 records"


def test_movement_quiet_and_shrinking_lag_are_no_stall() -> None:
    moving, quiet, shrinking = Judge(10), Judge(10), Judge(10)
    for now in range(0, 60, 5):
        assert moving.verdict(progress_at(now, 100 + now, now), now) is None
        assert quiet.verdict(progress_at(5, 100, now), now) is None
        assert shrinking.verdict(progress_at(5, 100 - now, now), now) is None


def test_a_burst_after_a_long_quiet_has_its_time_too() -> None:
    judge = Judge(10)
    for now in range(0, 60, 5):
        assert judge.verdict(progress_at(5, 0, now), now) is None
    assert judge.verdict(progress_at(5, 500, 60), 60) is None
    assert judge.verdict(progress_at(5, 500, 64), 64) is None
    assert judge.verdict(progress_at(5, 500, 65), 65) is not None


def test_waiting_on_purpose_is_no_stall_until_it_ends() -> None:
    judge, progress = Judge(10), progress_at(5, 100, 0)
    progress.waits_for("redis", "connection refused")
    for now in range(0, 60, 5):
        progress.lag("apply", 0, 100 + now)
        progress.beat_s = now
        assert judge.verdict(progress, now) is None
    progress.goes_on("redis")
    progress.lag("apply", 0, 1_000)
    progress.beat_s = 64
    assert judge.verdict(progress, 64) is None
    assert judge.verdict(progress, 66) is not None


def test_a_loop_that_does_not_turn_is_a_stall() -> None:
    assert Judge(10).verdict(progress_at(5, 0, 0), 11) == "the event loop has not turned for 11 s"


def test_the_watchdog_ends_a_process_whose_loop_is_stuck(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[int] = []
    over = threading.Event()

    def end(code: int) -> None:
        ended.append(code)
        over.set()

    async def stuck() -> None:
        progress = Progress()
        progress.doing("apply", 2, "decode")
        dog = Watchdog(progress, stall_s=0.2, end=end)
        dog.start(asyncio.get_running_loop())
        assert over.wait(GUARD_S), "the watchdog did not bark"
        dog.stop()

    with caplog.at_level(logging.ERROR):
        asyncio.run(stuck())
    assert ended == [10]
    assert "task apply partition 2" in caplog.text
    assert "stuck" in caplog.text


def test_where_everything_stands_can_be_told_without_a_loop() -> None:
    progress = progress_at(5, 7, 0)
    assert "task apply partition 0: moved 5, lag 7, no step named" in standing_lines(progress, None)
    progress.forget(0)
    assert progress.totals() == (0, 0)
