"""`feedrank diff` of a live namespace and a replay of the same topics by another policy."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from feedrank.cli import run
from streams.errors import ExitCode
from streams.settings import Settings
from tests.feedrank.people_file import write_policy
from tests.integration.conftest import BEGAN_MS, PEOPLE, drained, lags
from tests.integration.job import Job
from tests.waiting import until

pytestmark = pytest.mark.kafka

AS_OF_MS = BEGAN_MS + 86_400_000
"""After all that other tests put on the same topics."""


def test_a_live_feed_is_explained_from_the_topics_and_a_replayed_one_from_its_disk(
    calm: Job, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = job.start_worker()
    until(lambda: drained(job), "all committed", lambda: lags(job))
    job.settle(AS_OF_MS)
    assert worker.stop() == ExitCode.OK
    for name, value in job.environment(FEEDRANK_DATA_DIR=str(tmp_path)).items():
        monkeypatch.setenv(name, value)
    write_policy(
        tmp_path / "other.toml", ("\nage = -0.1\n", "\nage = -2.0\n"), ("trend = 0.03", "trend = 3.0")
    )
    other, tick_ms = f"{job.namespace}-b", Settings.load().ranking.tick_s * 1_000
    as_of = str(-(-AS_OF_MS // tick_ms) * tick_ms)
    words = ["replay", "--into", other, "--to", as_of, "--policy", str(tmp_path / "other.toml")]
    assert run(words) == ExitCode.OK, capsys.readouterr().err
    capsys.readouterr()
    assert run(["diff", job.namespace, other, "--json", "--most", "5"]) == ExitCode.OK
    found = orjson.loads(capsys.readouterr().out)
    assert found["users"]["compared"] == found["same_time"] == PEOPLE
    assert len(found["policies"]["a"] | found["policies"]["b"]) == 2
    assert found["most_changed"]
    for one in found["most_changed"]:
        assert one["b"]["known"].startswith("features of the replay's rows")
        assert one["b"]["exact"] is True
        served = one["a"]["known"] == "features of the served log"
        assert served or (one["a"]["exact"] and "rebuilt from the topics" in one["a"]["known"]), one["a"]
        moved = {m["feature"] for item in one["items"] for m in item["features"] or ()}
        assert moved <= {"age", "trend"}
    assert run(["diff", job.namespace, other, "--json", "--most", "5", "--no-rebuild"]) == ExitCode.OK
    for one in orjson.loads(capsys.readouterr().out)["most_changed"]:
        assert "served log" in one["a"]["known"]
