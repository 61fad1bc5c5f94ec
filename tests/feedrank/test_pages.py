"""The pages for operators name only what there is: metrics, tests."""

from __future__ import annotations

import re
from pathlib import Path

from streams.metrics import Metrics

ROOT = Path(__file__).parents[2]
OF_A_HISTOGRAM = re.compile(r"_(bucket|sum|count)$")


def test_alerts_and_tables_name_metrics_that_the_worker_has() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    there = set(re.findall(r"# TYPE (feedrank_\w+)", Metrics().exposition().decode()))
    named = {OF_A_HISTOGRAM.sub("", name) for name in re.findall(r"\bfeedrank_\w+", text)}
    assert len(named) > 15
    assert named <= there, named - there


def test_every_promise_names_tests_that_there_are() -> None:
    text = (ROOT / "docs/promises.md").read_text()
    folder = ""
    named = 0
    for path in re.findall(r"`((?:tests/(?:\w+/)?)?test_\w+\.py)`", text):
        folder = path.rpartition("/")[0] or folder
        assert (ROOT / folder / path.rpartition("/")[2]).exists(), path
        named += 1
    assert named > 30
