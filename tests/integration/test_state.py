"""Rows of a namespace beside the topics: verified, damaged, mended, and looked at, around real workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer

from feedrank.cli import run
from models.items import ITEM_ROW
from models.user_row import USER_ROW
from streams.durable import POSITION_KEY
from streams.errors import ExitCode
from tests.integration.conftest import ACTIVITIES as RECORDS
from tests.integration.conftest import ITEMS, PARTITIONS, PEOPLE, PERSON, activities, drained, lags, same_rows
from tests.integration.job import Job
from tests.waiting import GUARD_S, until
from topologies.stored_rows import TopicRows, read_item, read_user
from wire.partitioner import partition_of

pytestmark = pytest.mark.kafka

VICTIM = f"{PERSON}-7"


def command(
    here: pytest.MonkeyPatch, job: Job, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str]:
    for name, value in job.environment().items():
        here.setenv(name, value)
    capsys.readouterr()
    code = run(list(words))
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def damage(job: Job) -> None:
    """The victim's row with other counts and a page too many, as a bad disk or a defect would leave them."""
    with TopicRows(job.kafka, job.names) as rows:
        state = read_user(rows, VICTIM.encode())
    row = np.frombuffer(bytearray(state.rows[b"u" + VICTIM.encode()]), USER_ROW)
    row["d1"] += 1
    row["author_pos"][0, 0] = 77
    producer = Producer(job.kafka.confluent())
    partition = partition_of(VICTIM.encode(), PARTITIONS)
    for key, value in (
        (b"u" + VICTIM.encode(), row.tobytes()),
        (b"s\7" + VICTIM.encode(), bytes(512)),
        (POSITION_KEY, orjson.dumps(state.position)),
    ):
        producer.produce(job.names.users_changelog, value, key, partition)
    assert producer.flush(GUARD_S) == 0


def test_rows_are_verified_mended_beside_no_worker_and_go_on_as_if_nothing_had_been(
    calm: Job, job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = job.start_worker()
    until(lambda: drained(job), "all committed", lambda: lags(job))
    code, out = command(monkeypatch, job, capsys, "state", "verify", "--share", "1")
    assert (code, f"{PEOPLE} users compared" in out) == (ExitCode.OK, True), out  # beside a running worker
    code, out = command(monkeypatch, job, capsys, "state", "repair", "--share", "1")
    assert (code, "are alive" in out) == (ExitCode.NOT_READY, True), out
    assert worker.stop() == ExitCode.OK

    damage(job)
    code, out = command(monkeypatch, job, capsys, "state", "verify", "--share", "1", "--json")
    found = orjson.loads(out[out.index("{") : out.rindex("}") + 1])
    assert code == ExitCode.DIFFERENT
    assert found["verdicts"] == {"same": PEOPLE - 1, "different": 1, "items": 0, "gone": 0}
    assert [one["user"] for one in found["findings"]] == [VICTIM]
    fields = [one["field"] for one in found["findings"][0]["differences"]]
    assert fields == ["user.d1", "user.author_pos", "seen.7"]

    code, out = command(monkeypatch, job, capsys, "state", "repair", "--user", VICTIM)
    assert (code, "2 rows written" in out) == (ExitCode.OK, True), out
    code, out = command(monkeypatch, job, capsys, "state", "verify", "--share", "1")
    assert code == ExitCode.OK, out
    job.start_worker()  # on another disk: it reads what was mended
    same_rows(job, calm)


@pytest.mark.full
def test_item_rows_are_verified_and_mended_beside_no_worker(
    calm: Job, job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = job.start_worker()
    until(lambda: drained(job), "all committed", lambda: lags(job))
    code, out = command(monkeypatch, job, capsys, "state", "verify", "--items", "--share", "1")
    assert (code, "are alive" in out) == (ExitCode.NOT_READY, True), out
    assert worker.stop() == ExitCode.OK  # perhaps with deltas on their way
    damaged_items_are_mended(job, monkeypatch, capsys)
    job.start_worker()
    same_items(job, calm)


def damaged_items_are_mended(job: Job, here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = command(here, job, capsys, "state", "verify", "--items", "--share", "1")
    assert (code, f"{ITEMS} items compared" in out) == (ExitCode.OK, True), out
    with TopicRows(job.kafka, job.names) as rows:
        state = read_item(rows, "i7")
    ((key, value),) = state.rows.items()
    row = np.frombuffer(bytearray(value), ITEM_ROW)
    row["last_s"] += 300
    producer = Producer(job.kafka.confluent())
    for one, its in ((key, row.tobytes()), (POSITION_KEY, orjson.dumps(state.position))):
        producer.produce(job.names.item_rows_changelog, its, one, state.partition)
    assert producer.flush(GUARD_S) == 0
    code, out = command(here, job, capsys, "state", "verify", "--items", "--share", "1")
    assert (code, "i7:" in out, "item.last_s" in out) == (ExitCode.DIFFERENT, True, True), out
    code, out = command(here, job, capsys, "state", "repair", "--item", "i7", "--item", "i8")
    assert (code, "rows written" in out) == (ExitCode.OK, True), out
    code, out = command(here, job, capsys, "state", "verify", "--items", "--share", "1")
    assert code == ExitCode.OK, out


@pytest.mark.full
def test_a_worker_that_runs_in_spite_of_a_repair_is_fenced_and_nobodys_work_is_lost(
    calm: Job, job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = job.start_worker()
    until(lambda: drained(job), "all committed", lambda: lags(job))
    damage(job)
    monkeypatch.setattr("feedrank.state_command.demand_stopped", lambda *_: None)
    code, out = command(monkeypatch, job, capsys, "state", "repair", "--share", "1")
    assert (code, "2 rows written" in out) == (ExitCode.OK, True), out
    worker.kill()
    job.start_worker(FEEDRANK_DATA_DIR=str(job.directory / "data-0"))  # the disk that lags behind the mending
    same_rows(job, calm)


def test_an_export_becomes_a_namespace_that_goes_on_where_the_old_one_ended(
    calm: Job, job: Job, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    worker = job.start_worker()
    until(lambda: drained(job), "all committed", lambda: lags(job))
    files = tmp_path / "export"
    code, out = command(monkeypatch, job, capsys, "state", "export", str(files))
    assert (code, "are alive" in out) == (ExitCode.NOT_READY, True), out
    assert worker.stop() == ExitCode.OK
    code, out = command(monkeypatch, job, capsys, "state", "export", str(files))
    assert (code, "whole" in out) == (ExitCode.OK, True), out
    assert sum(pq.read_table(path).num_rows for path in files.glob("users-*.parquet")) == PEOPLE

    other = f"{job.namespace}-b"
    with Job(job.bootstrap, redis_url, tmp_path / "other", other) as second:
        data = {"FEEDRANK_DATA_DIR": str(tmp_path / "shadows"), "FEEDRANK_NAMESPACE": "elsewhere"}
        for name, value in data.items():
            monkeypatch.setenv(name, value)
        code = run(["state", "import", str(files), "--into", other])
        assert code == ExitCode.OK, capsys.readouterr().err
        for topic in ("users_changelog", "item_rows_changelog"):
            ours, theirs = (one.newest(getattr(one.names, topic)) for one in (second, job))
            for rows in (ours, theirs):
                for partition in range(PARTITIONS):
                    rows.pop(b"!position/%d" % partition)
            assert ours.keys() >= theirs.keys()
            if topic == "users_changelog":
                assert ours == theirs
        assert run(["state", "import", str(files), "--into", other]) != ExitCode.OK  # in use by now
        assert "in use" in capsys.readouterr().err
        second.load(activities(300, 1))
        (tmp_path / "other").mkdir(exist_ok=True)
        second.start_worker()
        same_rows(second, calm)
        same_items(second, calm)


def same_items(job: Job, calm: Job) -> None:
    """Item rows come to be the calm worker's."""
    until(lambda: _items(job) == _items(calm), "item rows are the calm worker's", lambda: len(_items(job)))


def _items(job: Job) -> dict[bytes, bytes]:
    rows = job.newest(job.names.item_rows_changelog)
    return {key: value for key, value in rows.items() if not key.startswith(b"!")}


def test_what_the_changelog_holds_can_be_looked_at(
    calm: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    until(lambda: drained(calm), "all committed", lambda: lags(calm))
    code, out = command(monkeypatch, calm, capsys, "inspect", "user", VICTIM, "--json")
    found = orjson.loads(out[out.index("{") : out.rindex("}") + 1])
    assert code == ExitCode.OK
    assert 0 < found["records"] < RECORDS
    assert all(one["item"].startswith("i") for one in found["engagements"])
    code, out = command(monkeypatch, calm, capsys, "inspect", "item", "i3", "--json")
    assert (code, '"author": "author-3"' in out) == (ExitCode.OK, True), out
    code, out = command(monkeypatch, calm, capsys, "inspect", "user", "nobody")
    assert code == ExitCode.BAD_INPUT
    code, out = command(monkeypatch, calm, capsys, "inspect", "user", "x", "--namespace", "never-was")
    assert (code, "is missing on" in out) == (ExitCode.TOPICS_WRONG, True), out
