"""Metrics, logs and loop holds: what operators see."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import sys
import threading
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.concerns import ObservabilitySettings
from streams.log import LineFormatter, Log, logger, setup
from streams.loop_watch import Judge, LoopWatch, Progress, Watchdog, standing_lines
from streams.metrics import Metrics, quantile
from tests.waiting import GUARD_S, slowness


def test_names_follow_the_conventions() -> None:
    metrics = Metrics()
    metrics.add(metrics.activities, 3, "applied")
    families = [
        f
        for f in text_string_to_metric_families(metrics.exposition().decode())
        if f.name.startswith("feedrank")
    ]
    assert len(families) > 20
    for family in families:
        assert re.fullmatch(r"feedrank_[a-z_]+", family.name)
        assert family.documentation
        assert not re.search(r"_(ms|us|kb|mb)$", family.name), "base units only"
        if family.type == "counter":
            assert all(s.name.endswith("_total") for s in family.samples if not s.name.endswith("_created"))


def test_counters_and_gauges_keep_their_children_apart() -> None:
    metrics = Metrics()
    metrics.add_each(metrics.activities, {"applied": 5, "duplicate": 1, "late": 0})
    metrics.add(metrics.activities, 2, "applied")
    metrics.set(metrics.lag, 7, "feedrank.activities", 3)
    assert metrics.value("feedrank_activities_total", outcome="applied") == 7
    assert metrics.value("feedrank_activities_total", outcome="duplicate") == 1
    assert metrics.value("feedrank_lag_records", topic="feedrank.activities", partition="3") == 7
    assert 'outcome="late"' not in metrics.exposition().decode()


def test_a_revoked_partition_leaves_no_lag_behind() -> None:
    metrics = Metrics()
    metrics.set(metrics.lag, 7, "t", 3)
    metrics.set(metrics.lag, 8, "t", 4)
    metrics.forget("t", 3)
    metrics.forget("t", 3)
    text = metrics.exposition().decode()
    assert 'feedrank_lag_records{partition="3"' not in text
    assert metrics.value("feedrank_lag_records", topic="t", partition="4") == 8
    metrics.set(metrics.lag, 9, "t", 3)
    assert metrics.value("feedrank_lag_records", topic="t", partition="3") == 9


def test_nothing_is_left_of_a_revoked_partition() -> None:
    metrics = Metrics()
    gauges = [one for one in vars(metrics).values() if "partition" in getattr(one, "_labelnames", ())]
    assert metrics.rows in gauges
    for gauge in gauges:
        more = ["more"] * (len(gauge._labelnames) - 2)
        for topic, partition in (("t", 3), ("t", 4), ("other", 3)):
            metrics.set(gauge, 1, topic, partition, *more)
    metrics.forget("t", 3)
    left = [
        (sample.labels["topic"], sample.labels["partition"])
        for family in metrics.registry.collect()
        for sample in family.samples
        if "partition" in sample.labels
    ]
    assert sorted(left) == sorted([("t", "4"), ("other", "3")] * len(gauges))


def test_a_gauge_of_a_partition_that_could_not_be_forgotten_is_refused() -> None:
    with pytest.raises(AssertionError, match="nobody could forget"):
        Metrics()._gauge("rows_of", "Rows", "table", "partition")


def test_a_stage_is_timed_even_when_it_fails() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError), metrics.stage("decode"):
        raise KeyError
    assert metrics.value("feedrank_stage_seconds_count", stage="decode") == 1


def test_two_workers_in_one_process_do_not_share_metrics() -> None:
    one, other = Metrics(), Metrics()
    one.add(one.rocksdb_rows, 5)
    assert other.value("feedrank_rocksdb_rows_total") == 0


def test_quantiles_interpolate_within_a_bucket() -> None:
    buckets = {0.01: 50.0, 0.02: 100.0, math.inf: 100.0}
    assert quantile(buckets, 0.5) == pytest.approx(0.01)
    assert quantile(buckets, 0.75) == pytest.approx(0.015)
    assert quantile({0.01: 0.0, math.inf: 5.0}, 0.5) == 0.01
    assert math.isnan(quantile({0.01: 0.0, math.inf: 0.0}, 0.5))


def record(**fields: object) -> logging.LogRecord:
    made = logging.LogRecord("feedrank.x", logging.INFO, __file__, 1, "batch done", (), None)
    made.fields = fields
    return made


def test_a_text_line_has_fields_and_stays_one_line() -> None:
    line = LineFormatter(False, False, {}).format(record(partition=3, why='a "b"\nc'))
    assert line.endswith(r'info    feedrank.x: batch done partition=3 why="a \"b\"\nc"')
    assert "\n" not in line


def test_a_json_line_parses_and_carries_the_labels() -> None:
    line = LineFormatter(True, False, {"service": "feedrank"}).format(record(rows=3))
    parsed = json.loads(line)
    assert parsed["message"] == "batch done"
    assert (parsed["rows"], parsed["service"], parsed["level"]) == (3, "feedrank", "info")


@pytest.mark.parametrize("as_json", [True, False])
def test_user_ids_are_written_at_debug_only(as_json: bool) -> None:
    assert "ann" not in LineFormatter(as_json, False, {}).format(record(user="ann"))
    assert "ann" in LineFormatter(as_json, True, {}).format(record(user="ann"))


def test_setup_quiets_the_root_that_faust_leaves_at_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before, handlers = root.level, list(root.handlers)
    try:
        root.setLevel(logging.DEBUG)
        for _ in range(2):
            setup(ObservabilitySettings())
        assert root.level == logging.INFO
        assert len(root.handlers) == 1
        assert not logging.getLogger("aiokafka.consumer.fetcher").isEnabledFor(logging.WARNING)
    finally:
        root.setLevel(before)
        root.handlers[:] = handlers
    assert isinstance(logger("x"), Log)


def test_services_that_tell_of_themselves_are_quiet_and_their_exceptions_are_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    setup(ObservabilitySettings(), sys.stderr)
    narrator = logging.getLogger("streams.transport")  # mode names loggers after the module of the class
    narrator.info("[^%s]: Starting...", "ShardApp")
    logging.getLogger("asyncio").error("Unclosed AIOKafkaProducer\nproducer: <aiokafka.x>")
    assert capsys.readouterr().err == ""
    narrator.error("[^%s]: Crashed", "ShardApp", exc_info=ValueError("why"))
    logger("streams.transport").info("listening")
    assert len(capsys.readouterr().err.splitlines()) == 2


def block(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_a_long_callback_is_measured_and_named(caplog: pytest.LogCaptureFixture) -> None:
    async def greedy() -> None:
        block(0.03)

    metrics = Metrics()
    watch = LoopWatch(metrics, hold_ms_max=10)
    original = asyncio.events.Handle._run
    watch.start()
    watch.start()
    try:
        with caplog.at_level(logging.WARNING):
            asyncio.run(greedy())
    finally:
        watch.stop()
    assert asyncio.events.Handle._run is original
    # on a busy machine others hold the loop too
    ((by, longest_s),) = [one for one in metrics.longest_hold_s.items() if one[0].endswith("greedy")]
    assert longest_s >= 0.03
    assert metrics.value("feedrank_loop_hold_max_seconds", by=by) == longest_s
    assert metrics.value("feedrank_loop_held_seconds_total", by=by) == longest_s
    assert by in [record.fields["by"] for record in caplog.records]


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
    watch = LoopWatch(metrics, hold_ms_max=1_000)
    watch.start()
    try:
        asyncio.run(both())
    finally:
        watch.stop()
    ours = {by.rpartition(".")[2] for by in metrics.longest_hold_s}
    assert {"ingest", "inner"} <= ours


def test_short_callbacks_are_not_holds() -> None:
    metrics = Metrics()
    watch = LoopWatch(metrics, hold_ms_max=10)
    watch.start()
    try:
        asyncio.run(asyncio.sleep(0))
    finally:
        watch.stop()
    assert max(metrics.longest_hold_s.values(), default=0.0) < 0.03 * slowness()


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
