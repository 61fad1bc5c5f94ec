"""When readers may be sent to a namespace, and what the refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedrank.shadow import Standing, demand, demand_no_replay
from streams.errors import ExitCode, OperatorError
from topologies.replay.custody import move, now_ms, submit
from topologies.replay.job import LEASE_MS, State
from topologies.replay.job_log import FileJobLog

LIVE = Standing("live", (), 0, 1_000)


@pytest.mark.parametrize(
    ("shadow", "says"),
    [
        (Standing("next", (0, 1), 0, 0), "there is no namespace next"),
        (Standing("next", (1,), 0, 1_000), r"partitions \(1,\) never read"),
        (Standing("next", (), 101, 1_000), "101 records behind.*feedrank catch-up next"),
        (Standing("next", (), 100, 989), "next has 989 feeds, live has 1,000.*1.0% fewer.*settle"),
    ],
)
def test_a_namespace_that_would_lose_something_is_refused(shadow: Standing, says: str) -> None:
    with pytest.raises(OperatorError, match=says) as refused:
        demand(shadow, LIVE, lag_max=100, smaller_max=0.01)
    assert refused.value.exit_code == ExitCode.NOT_READY


def test_within_the_tolerances_it_is_ready() -> None:
    demand(Standing("next", (), 100, 990), LIVE, lag_max=100, smaller_max=0.01)


def test_a_namespace_is_refused_until_its_replay_is_at_its_end(tmp_path: Path) -> None:
    log = FileJobLog(tmp_path)
    demand_no_replay(log, "next")  # there never was one
    submit(log, "r0", "other", tmp_path)
    demand_no_replay(log, "next")
    job = submit(log, "r1", "next", tmp_path)
    with pytest.raises(OperatorError, match=r"is submitted.*jobs resume r1.*jobs cancel r1"):
        demand_no_replay(log, "next")
    job = move(log, job, State.RUNNING, lease_until_ms=now_ms() + LEASE_MS)
    with pytest.raises(OperatorError, match=r"is running.*wait until `feedrank jobs show r1`") as refused:
        demand_no_replay(log, "next")
    assert refused.value.exit_code == ExitCode.NOT_READY
    job = move(log, job, State.RUNNING, lease_until_ms=now_ms() - 1)  # its process died
    with pytest.raises(OperatorError, match=r"is running.*jobs resume r1"):
        demand_no_replay(log, "next")
    move(log, job, State.FINISHED)
    demand_no_replay(log, "next")
