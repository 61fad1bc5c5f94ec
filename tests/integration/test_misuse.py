"""Bad input and misuse of a worker: one clear message, the right exit code, and nothing lost."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import redis
from confluent_kafka.admin import AdminClient

import streams.topics_admin
from feedrank.cli import run
from streams.errors import ExitCode
from tests.conftest import absent
from tests.integration.conftest import (
    PARTITIONS,
    PERSON,
    activities,
    drained,
    lags,
    same_rows,
    why_not_ready,
)
from tests.integration.job import Job, Worker
from tests.services import create_topic, free_port
from tests.waiting import GUARD_S, ended, slowness, started, until
from wire.names import ACTIVITIES

Environment = dict[str, str]
STOP_S_MAX = 4.0
"""Of a worker with a full disk: RocksDB waits for a second, once for all shards of a job."""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Commands run in this process: no settings but the test's, and logging as it was afterwards."""
    for name in [name for name in os.environ if name.startswith(("FEEDRANK_", "KAFKA_", "REDIS_"))]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield monkeypatch
    root.handlers[:], root.level = handlers, level


def refused(here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **settings: str) -> tuple[int, str]:
    """`feedrank worker` with these settings: its exit code and its one line."""
    for name, value in settings.items():
        here.setenv(name, value)
    code = run(["worker"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return code, lines[0]


def ends(worker: Worker) -> tuple[int, str]:
    """The exit code of a worker that gives up, and the one error in its log."""
    code, _ = ended(worker.process)
    errors = [line for line in worker.log.read_text().splitlines() if " error " in line]
    assert len(errors) == 1, worker.log.read_text()
    return code, errors[0]


# -- before anything is connected ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        ({"FEEDRANK_NAMESPAC": "x"}, ExitCode.USAGE, "did you mean FEEDRANK_NAMESPACE"),
        ({"FEEDRANK_ZZZ": "1"}, ExitCode.USAGE, "FEEDRANK_ZZZ (from the environment) is not a setting"),
        ({"CHECKPOINT_MS": "soon"}, ExitCode.USAGE, "CHECKPOINT_MS='soon' (from the environment)"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "kafka"}, ExitCode.USAGE, "write for example localhost:9092"),
        ({"FEEDRANK_POLICY": "/none.toml"}, ExitCode.POLICY, "/none.toml cannot be read"),
    ],
)
def test_a_wrong_setting_is_named(
    here: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: Environment,
    code: ExitCode,
    says: str,
) -> None:
    found, line = refused(here, capsys, **settings)
    assert found == code
    assert says in line


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("active_days = 14", "active_dayz = 14", "feed.active_dayz is not known; remove it or correct"),
        ("active_days = 14", "active_days = 0", "feed.active_days is 0, it must be a whole number from 1"),
        ("active_days = 14", "active_days =", "this is not TOML"),
    ],
)
def test_a_broken_policy_is_named_with_its_line(
    here: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    right: str,
    wrong: str,
    says: str,
) -> None:
    good = files("models").joinpath("default_policy.toml").read_text()
    number = 1 + next(n for n, line in enumerate(good.splitlines()) if line.startswith(right))
    path = tmp_path / "policy.toml"
    path.write_text(good.replace(right, wrong))
    found, line = refused(here, capsys, FEEDRANK_POLICY=str(path))
    assert found == ExitCode.POLICY
    assert f"{path}, line {number}: {says}" in line


def test_no_broker_and_something_that_is_no_broker(
    here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], redis_url: str
) -> None:
    here.setattr(streams.topics_admin, "ANSWER_S", 1.0)
    redis_address = redis_url.partition("//")[2].partition("/")[0]
    for address in (f"127.0.0.1:{free_port()}", redis_address):
        found, line = refused(here, capsys, KAFKA_BOOTSTRAP_SERVERS=address)
        assert found == ExitCode.BROKER_UNREACHABLE
        assert f"Kafka at {address} does not answer" in line
        assert "correct KAFKA_BOOTSTRAP_SERVERS" in line


# -- topics ----------------------------------------------------------------------------------------------


@pytest.mark.kafka
def test_missing_topics_are_named_together_and_created(
    calm: Job, here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], namespace: str
) -> None:
    found, line = refused(here, capsys, KAFKA_BOOTSTRAP_SERVERS=calm.bootstrap, FEEDRANK_NAMESPACE=namespace)
    assert found == ExitCode.TOPICS_WRONG
    assert f"feedrank.{namespace}.item-deltas, feedrank.{namespace}.item-features" in line
    assert "`feedrank topics create` makes them" in line
    assert run(["topics", "create"]) == 0
    assert f"created feedrank.{namespace}.item-deltas" in capsys.readouterr().out
    assert run(["topics", "check"]) == 0


@pytest.mark.kafka
def test_a_wrong_partition_count_names_both_sides(
    calm: Job, here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], namespace: str
) -> None:
    here.setenv("KAFKA_BOOTSTRAP_SERVERS", calm.bootstrap)
    here.setenv("FEEDRANK_NAMESPACE", namespace)
    create_topic(calm.bootstrap, f"feedrank.{namespace}.served", partitions=3)
    assert run(["topics", "create"]) == ExitCode.TOPICS_WRONG
    said = capsys.readouterr()
    assert (said.out + said.err).count("has 3 partitions") == 1
    found, line = refused(here, capsys)
    assert found == ExitCode.TOPICS_WRONG
    assert f"feedrank.{namespace}.served: has 3 partitions, but {ACTIVITIES} has {PARTITIONS}" in line


@pytest.mark.kafka
def test_a_topic_made_anew_is_refused_with_what_to_do(job: Job) -> None:
    worker = job.start_worker()
    positions = job.names.item_rows_changelog
    until(lambda: b'"position":0' not in b"".join(job.newest(positions).values()), "all have a position")
    until(lambda: len(job.newest(positions)) >= PARTITIONS, "all have committed")
    worker.stop()
    admin = AdminClient({"bootstrap.servers": job.bootstrap})
    name = job.names.item_deltas
    admin.delete_topics([name])[name].result(GUARD_S)
    until(lambda: name not in admin.list_topics(timeout=GUARD_S).topics, "the topic is gone")
    create_topic(job.bootstrap, name, PARTITIONS, max_message_bytes="8388608")
    found, line = ends(job.launch())
    assert found == ExitCode.POSITION_OUTSIDE_LOG
    assert f"{name} partition" in line
    assert "the topic was emptied or made anew. Restore it, or rebuild into a new namespace" in line


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("kind", "seed", "says"),
    [("served", 8, "partition"), ("users-changelog", 9, "feedrank.activities partition"),
     ("item-deltas", 10, "assignment: ")],
)  # fmt: skip
def test_a_topic_that_is_deleted_under_a_worker_ends_it_with_the_code_of_its_next_start(
    job: Job, kind: str, seed: int, says: str
) -> None:
    worker = job.start_worker()
    until(lambda: drained(job), "all is applied", lambda: lags(job))
    admin, name = AdminClient({"bootstrap.servers": job.bootstrap}), f"{job.names.name}.{kind}"
    name = next(one for one in admin.list_topics(timeout=GUARD_S).topics if one.endswith(name))
    admin.delete_topics([name])[name].result(GUARD_S)
    job.load(activities(200, seed))
    until(lambda: says in why_not_ready(worker), "/readyz says what waits")
    found, line = ends(worker)
    assert found == ExitCode.TOPICS_WRONG
    assert f"the topic is missing: {name}; `feedrank topics create` makes them" in line


# -- the machine -----------------------------------------------------------------------------------------


@pytest.mark.kafka
def test_a_port_and_a_directory_that_others_have(calm: Job, job: Job, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    other = job.start_worker()
    wrong = [
        job.launch(WORKER_PORT=str(other.port)),
        job.launch(FEEDRANK_DATA_DIR=str(tmp_path / "data-0")),
        job.launch(FEEDRANK_DATA_DIR=str(file)),
    ]
    found = [ends(worker) for worker in wrong]
    assert [code for code, _ in found] == [ExitCode.PORT_TAKEN, *[ExitCode.DATA_DIRECTORY] * 2]
    port, held, no_directory = (line for _, line in found)
    assert f"port {other.port} on 127.0.0.1 is taken; set WORKER_PORT to another" in port
    assert f"held by another worker (process {other.process.pid})" in held
    assert f"cannot make {file}/{job.namespace} (Not a directory); correct FEEDRANK_DATA_DIR" in no_directory
    same_rows(job, calm)  # the worker that was there first did not suffer


def on_a_disk(size: str, mode: str, directory: Path, job: Job) -> tuple[int, str]:
    """A worker whose data directory is a disk of this size; SIGTERM once all is applied, if it gets there.
    It stops in time whatever the disk does."""
    directory.mkdir(exist_ok=True)
    space = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
    mount = f"mount -t tmpfs -o size={size},{mode} tmpfs {directory}"
    if shutil.which("unshare") is None or subprocess.run([*space, "sh", "-c", mount], check=False).returncode:
        absent("no disk can be mounted here: it takes unshare and the right to mount")
    log = directory.with_suffix(".log")
    environment = job.environment(FEEDRANK_DATA_DIR=str(directory), WORKER_PORT="0", ROCKS_FLUSH_MS="100")
    run = [*space, "sh", "-c", f"{mount} && exec {sys.executable} -m feedrank.cli worker"]
    with log.open("wb") as output, started(run, env=environment, stdout=output, stderr=output) as process:
        until(
            lambda: process.poll() is not None or drained(job),
            "all is applied or the worker has ended",
            lambda: (log.stat().st_size, lags(job)),
        )
        process.terminate()
        code, seconds = ended(process)
        assert seconds < STOP_S_MAX * slowness()
    text = log.read_text()
    assert "Traceback" not in text
    return code, text


@pytest.mark.kafka
def test_a_disk_that_is_full_or_read_only(job: Job, tmp_path: Path) -> None:
    found, text = on_a_disk("1m", "ro", tmp_path / "read-only", job)
    assert (found, len(text.splitlines())) == (ExitCode.DATA_DIRECTORY, 1)
    assert "(Read-only file system); correct FEEDRANK_DATA_DIR" in text

    found, text = on_a_disk("64k", "rw", tmp_path / "full", job)
    assert found == ExitCode.DATA_DIRECTORY
    assert "the disk is full: free space or move FEEDRANK_DATA_DIR, then restart; nothing is lost" in text

    found, text = on_a_disk("400k", "rw", tmp_path / "full-later", job)
    assert found == 0, text  # enough to start with, too little to close well
    assert "rows are replayed at start" in text


@pytest.mark.kafka
def test_a_data_directory_that_vanishes_does_not_hold_up_the_stop(calm: Job, job: Job) -> None:
    worker = job.start_worker()
    same_rows(job, calm)
    shutil.rmtree(job.directory / "data-0")
    worker.process.terminate()
    code, seconds = ended(worker.process)
    assert (code, seconds < STOP_S_MAX * slowness()) == (0, True), seconds
    assert worker.log.read_text().count("rows are replayed at start") > PARTITIONS


# -- commands --------------------------------------------------------------------------------------------


@pytest.mark.kafka
def test_settle_without_workers_gives_up_and_withdraws(
    job: Job, here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in job.environment().items():
        here.setenv(name, value)
    assert run(["settle", "--timeout-s", "0.5"]) == ExitCode.STALLED
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "partitions [0, 1, 2, 3] did not acknowledge in 0 s; check that workers own them" in lines[0]
    with redis.Redis.from_url(job.redis_url) as client:
        assert client.get(f"feedrank:settle:{{{job.namespace}}}") is None


@pytest.mark.kafka
def test_fausts_own_runner_works_and_ends_with_our_codes(calm: Job, job: Job) -> None:
    faust = [str(Path(sys.executable).with_name("faust")), "-A", "topologies.app"]
    command = [*faust, "worker", "--without-web"]
    log = job.directory / "faust.log"
    environment = job.environment(FEEDRANK_DATA_DIR=str(job.directory / "faust"), WORKER_PORT="0")
    with log.open("wb") as output, started(command, env=environment, stdout=output, stderr=output) as process:
        same_rows(job, calm)
        for wrong, code in (
            ({"WORKER_PORT": "0"}, ExitCode.DATA_DIRECTORY),
            ({"KAFKA_BOOTSTRAP_SERVERS": "kafka"}, ExitCode.USAGE),
        ):
            done = subprocess.run(command, env=environment | wrong, capture_output=True, check=False)
            assert done.returncode == code, done.stderr
            assert len(done.stderr.splitlines()) == 1
        process.terminate()
        assert ended(process)[0] == 0
    text = log.read_text()
    assert PERSON not in text
    assert text.count(": listening url=http://127.0.0.1:") == 1, text
