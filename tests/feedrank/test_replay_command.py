"""`feedrank replay`, `jobs`, `digest` without Kafka and Redis: kills, pauses, kinds of files, a full disk."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from feedrank import cli
from streams.errors import ExitCode
from tests.feedrank.replaying import (
    Lines,
    digest_of,
    digest_told,
    kinds_of_files,
    lines_of,
    replay,
    the_job,
    written,
)
from tests.oracle.made_up import Size, Stream
from tests.waiting import until
from topologies.replay.job import State
from topologies.replay.job_log import FileJobLog

WAIT_S = 600


def test_every_kind_of_file_gives_the_digest_of_the_oracle(
    tmp_path: Path,
    data: Path,
    lines: Lines,
    stream: Stream,
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for kind, paths in kinds_of_files(tmp_path, lines):
        assert replay(*paths, "--to", str(stream.end_ms), into=kind) == 0
        assert digest_of(capsys, kind) == expected, kind
        assert the_job(data).state is State.FINISHED


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def begun() -> Iterator[Start]:
    """Processes of the command line; what still runs when the test ends is ended."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str | Path) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "feedrank.cli", *map(str, arguments)]
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def started(data: Path, begun: Start) -> Start:
    """Replays in processes of their own, each job submitted."""

    def start(*arguments: str | Path) -> subprocess.Popen[str]:
        process = begun("replay", *arguments, "--feeds", "files")

        def at_work() -> bool:
            ended = process.poll() is not None  # asked first: whatever it did is in the log then
            begun_it = bool(FileJobLog(data).jobs()) and the_job(data).state is not State.SUBMITTED
            assert begun_it or not ended
            return begun_it

        until(at_work, "the job runs")
        return process

    return start


@pytest.mark.parametrize("processes", ["1", "2"])
def test_killed_anywhere_and_resumed_it_has_the_same_digest(
    tmp_path: Path,
    data: Path,
    begun: Start,
    started: Start,
    lines: Lines,
    stream: Stream,
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    processes: str,
) -> None:
    monkeypatch.setenv("REPLAY_RECORDS_MAX", "50")
    path, chance = written(tmp_path / "a.jsonl", lines), random.Random(processes)
    process = started(path, "--into", "june", "--to", str(stream.end_ms), "--jobs", processes)
    job = the_job(data)
    for _ in range(4):
        time.sleep(chance.random() * 3)  # any point will do
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = begun("jobs", "resume", job.id, "--jobs", processes)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if the_job(data).state is not State.FINISHED:
        assert cli.run(["jobs", "resume", job.id]) == 0
    assert digest_of(capsys, "june") == expected


def other_process(of: subprocess.Popen[str]) -> int:
    """The pid of the process that a replay with two jobs has started, once it is there."""
    found: list[int] = []

    def there() -> bool:
        assert of.poll() is None
        for pid in Path(f"/proc/{of.pid}/task/{of.pid}/children").read_text().split():
            with contextlib.suppress(OSError):  # ended since
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
        return bool(found)

    until(there, "there is another process")
    return found[0]


def has_open(pid: int, folder: Path) -> bool:
    """Whether a process has files of a folder open."""
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since
            if file.readlink().is_relative_to(folder):
                return True
    return False


@pytest.fixture(scope="module")
def long() -> Stream:
    """Of which a replay needs seconds, one record at a time."""
    return Stream(4, Size(activities=6_000, items=200, users=25, changing=False))


@pytest.mark.parametrize("at_work", [False, True])
def test_when_one_of_two_processes_dies_the_job_fails_and_can_be_resumed(
    tmp_path: Path,
    data: Path,
    started: Start,
    long: Stream,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    at_work: bool,
) -> None:
    """It dies while it imports, or when it has taken a partition. The command itself needs seconds for its
    own, one record at a time, so that the other always has some to take."""
    monkeypatch.setenv("REPLAY_RECORDS_MAX", "1")
    path = written(tmp_path / "a.jsonl", lines_of(long))
    process = started(path, "--into", "june", "--to", str(long.end_ms), "--jobs", "2")
    pid = other_process(process)
    if at_work:
        until(lambda: has_open(pid, data / "june"), "it has taken a partition", process.poll)
    os.kill(pid, signal.SIGKILL)
    assert process.wait(WAIT_S) == ExitCode.INTERNAL
    assert the_job(data).state is State.FAILED
    monkeypatch.setenv("REPLAY_RECORDS_MAX", "50")
    assert cli.run(["jobs", "resume", the_job(data).id, "--jobs", "2"]) == 0
    assert digest_of(capsys, "june") == digest_told(long)


def test_paused_shown_resumed_and_no_second_process(
    tmp_path: Path,
    data: Path,
    started: Start,
    lines: Lines,
    stream: Stream,
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REPLAY_RECORDS_MAX", "1")  # long enough to be met at work
    many = [*lines, *({**one, "activity_id": f"again-{n}"} for n, one in enumerate(lines) if "actor" in one)]
    process = started(written(tmp_path / "a.jsonl", many * 3), "--into", "june")
    job = the_job(data)
    assert cli.run(["jobs", "resume", job.id]) == ExitCode.FENCED
    assert "Two processes cannot run one job" in capsys.readouterr().err
    assert cli.run(["jobs", "pause", job.id]) == 0
    assert process.wait(WAIT_S) == ExitCode.INTERRUPTED
    assert cli.run(["jobs", "show", job.id]) == 0
    said = capsys.readouterr().out
    assert [line.split()[2] for line in said.splitlines()[-3:]] == ["submitted", "running", "paused"]
    assert cli.run(["jobs", "list"]) == 0
    assert "paused" in capsys.readouterr().out
    assert cli.run(["jobs", "cancel", job.id]) == 0
    assert "deleted" in capsys.readouterr().out
    assert not (data / "june").exists()
    capsys.readouterr()
    assert cli.run(["jobs", "resume", job.id]) == ExitCode.BAD_INPUT
    assert "is cancelled: it cannot become running" in capsys.readouterr().err


@pytest.mark.parametrize("kilobytes", [60, 80])
def test_a_disk_that_takes_no_more_fails_the_job_and_it_can_be_resumed(
    tmp_path: Path,
    data: Path,
    lines: Lines,
    stream: Stream,
    expected: str,
    capsys: pytest.CaptureFixture[str],
    kilobytes: int,
) -> None:
    """No file may be larger: the spool (of 69 kB) fails first, then RocksDB."""
    path = written(tmp_path / "a.jsonl", lines)
    arguments = ["replay", str(path), "--into", "june", "--to", str(stream.end_ms), "--feeds", "files"]
    done = subprocess.run(
        [sys.executable, "-m", "feedrank.cli", *arguments],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, kilobytes << 10)),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == ExitCode.DATA_DIRECTORY, done.stdout + done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("feedrank: ")]
    assert "june" in said
    assert the_job(data).state is State.FAILED
    assert cli.run(["jobs", "resume", the_job(data).id]) == 0
    assert digest_of(capsys, "june") == expected


def test_ctrl_c_pauses(
    tmp_path: Path, data: Path, started: Start, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLAY_RECORDS_MAX", "1")
    process = started(written(tmp_path / "a.jsonl", lines * 3), "--into", "june")
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT_S) == ExitCode.INTERRUPTED
    assert the_job(data).state is State.PAUSED
    assert the_job(data).holder.note == "Ctrl-C"


def test_a_plan_changes_nothing(
    tmp_path: Path, data: Path, lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "a.jsonl.gz", lines)
    assert replay(path, "--dry-run", "--to", "2023-11-23T08:26:40Z") == 0
    said = capsys.readouterr().out
    assert f"records  {len(lines):,} lines" in said
    assert "settled  at 2023-11-23T08:26:40Z" in said
    assert not data.exists()


def test_feeds_of_some_users_are_those_of_all(
    tmp_path: Path, data: Path, lines: Lines, stream: Stream, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "a.jsonl", lines)
    (tmp_path / "some").write_text("user-7\nuser-8\n")
    tables = {}
    chosen = {"all": "", "two": "user-7,user-8", "file": f"@{tmp_path}/some", "half": "50%"}
    for name, users in chosen.items():
        assert replay(path, "--to", str(stream.end_ms), "--users", users, into=name) == 0
        capsys.readouterr()
        assert cli.run(["digest", name]) == 0
        tables[name] = [line.split() for line in capsys.readouterr().out.splitlines()[:3]]
    assert len({str(found[:2]) for found in tables.values()}) == 1  # rows are everyone's
    feeds = {name: int(found[2][1]) for name, found in tables.items()}
    assert feeds["two"] == feeds["file"] == 4
    assert tables["two"][2] == tables["file"][2]
    assert 4 < feeds["half"] < feeds["all"]
