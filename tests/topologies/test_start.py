"""What a worker says before its loop: topics that take records from the future are told of, not refused."""

from __future__ import annotations

import pytest

from streams.settings import Settings
from streams.topics import NO_BOUND_MS, TIMESTAMP_AHEAD, Found, Report, desired, judge
from topologies import start
from wire.names import ACTIVITIES, Namespace


def test_a_topic_that_takes_records_from_the_future_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = desired(Namespace("live"))
    found = {one.name: Found(4, 1, one.config()) for one in wanted}
    found[ACTIVITIES] = Found(4, 1, {TIMESTAMP_AHEAD: str(NO_BOUND_MS)})

    class Admin:
        def __init__(self, *_: object) -> None:
            pass

        def check(self) -> Report:
            return judge(wanted, found)

        def partitions(self, _: str) -> int:
            return 4

    monkeypatch.setattr(start, "TopicsAdmin", Admin)
    monkeypatch.setattr(start, "setup", lambda _: None)
    start.prepare(Settings.load())
    (said,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert said.startswith(f"{ACTIVITIES}: {TIMESTAMP_AHEAD} is {NO_BOUND_MS}")
    assert "kafka-configs.sh" in said
