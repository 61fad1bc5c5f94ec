"""Metrics, logs and loop holds: what operators see."""

from __future__ import annotations

import json
import logging
import math
import re
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.concerns import ObservabilitySettings
from streams.log import LineFormatter, Log, logger, setup
from streams.metrics import Metrics, quantile


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
