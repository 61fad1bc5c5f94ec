"""`feedrank replay`, `jobs`, `digest` without Kafka and Redis: kills, pauses, kinds of files, bad input."""

from __future__ import annotations

import gzip
import json
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedrank import cli
from feedrank.load.events import ItemEvent
from streams.codec.schemas import reader_text
from streams.errors import ExitCode
from tests.integration.test_oracle import as_event, told
from tests.oracle.digest import digest
from tests.oracle.made_up import Size, Stream
from tests.shadows import BUNDLED, TICK_MS
from topologies.replay.job import State
from topologies.replay.job_log import FileJobLog

Lines = list[dict[str, Any]]
WAIT_S = 120.0


@pytest.fixture(scope="module")
def stream() -> Stream:
    return Stream(3, Size(activities=1_500, items=200, users=25, changing=False))


@pytest.fixture(scope="module")
def expected(stream: Stream) -> str:
    world = told(map(as_event, stream.events), BUNDLED)  # type: ignore[arg-type]
    return digest(world, world.settled(stream.end_ms, TICK_MS))


@pytest.fixture(scope="module")
def lines(stream: Stream) -> Lines:
    found = []
    for event in map(as_event, stream.events):  # type: ignore[arg-type]
        kind = "item" if isinstance(event, ItemEvent) else "activity"
        fields = {name: value for name, value in event.record().items() if value is not None}  # type: ignore[union-attr]
        found.append({"type": kind, **fields})
    return found


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEEDRANK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    return tmp_path / "data"


def written(path: Path, lines: Lines) -> Path:
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def replay(*arguments: str | Path, into: str = "june", feeds: str = "files") -> int:
    return cli.run(["replay", *map(str, arguments), "--into", into, "--feeds", feeds])


def digest_of(capsys: pytest.CaptureFixture[str], namespace: str) -> str:
    capsys.readouterr()
    assert cli.run(["digest", namespace]) == 0
    found = re.search(r"^digest (\w{64})$", capsys.readouterr().out, re.M)
    assert found
    return found[1]


def the_job(data: Path) -> Any:
    return list(FileJobLog(data).jobs().values())[-1]


def kinds_of_files(folder: Path, lines: Lines) -> Iterator[tuple[str, list[Path]]]:
    """The same content in every format; Avro and Parquet have a file for items and one for activities."""
    yield "plain", [written(folder / "a.jsonl", lines)]
    yield "gzip", [written(folder / "a.jsonl.gz", lines)]
    for kind in ("avro", "parquet"):
        paths = []
        for what in ("item", "activity"):
            rows = [{k: v for k, v in one.items() if k != "type"} for one in lines if one["type"] == what]
            path = folder / f"{what}.{kind}"
            schema = json.loads(reader_text("item" if what == "item" else "activity"))
            if kind == "avro":
                with path.open("wb") as file:
                    fastavro.writer(file, fastavro.parse_schema(schema), rows)
            else:
                names = dict.fromkeys(name for row in rows for name in row)
                pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)
            paths.append(path)
        yield kind, paths


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


def started(data: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """A replay in a process of its own, its job submitted."""
    command = [sys.executable, "-m", "feedrank.cli", "replay", *map(str, arguments), "--feeds", "files"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    deadline_s = time.monotonic() + WAIT_S
    while not FileJobLog(data).jobs() or the_job(data).state is State.SUBMITTED:
        assert time.monotonic() < deadline_s
        assert process.poll() is None
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("processes", ["1", "2"])
def test_killed_anywhere_and_resumed_it_has_the_same_digest(
    tmp_path: Path,
    data: Path,
    lines: Lines,
    stream: Stream,
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    processes: str,
) -> None:
    monkeypatch.setenv("REPLAY_RECORDS_MAX", "50")
    path, chance = written(tmp_path / "a.jsonl", lines), random.Random(processes)
    process = started(data, path, "--into", "june", "--to", str(stream.end_ms), "--jobs", processes)
    job = the_job(data)
    for _ in range(4):
        time.sleep(chance.random() * 3)  # any point will do
        process.send_signal(signal.SIGKILL)
        process.wait()
        command = [sys.executable, "-m", "feedrank.cli", "jobs", "resume", job.id, "--jobs", processes]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if the_job(data).state is not State.FINISHED:
        assert cli.run(["jobs", "resume", job.id]) == 0
    assert digest_of(capsys, "june") == expected


def test_paused_shown_resumed_and_no_second_process(
    tmp_path: Path,
    data: Path,
    lines: Lines,
    stream: Stream,
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REPLAY_RECORDS_MAX", "1")  # long enough to be met at work
    many = [*lines, *({**one, "activity_id": f"again-{n}"} for n, one in enumerate(lines) if "actor" in one)]
    process = started(data, written(tmp_path / "a.jsonl", many * 3), "--into", "june")
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
    assert cli.run(["jobs", "resume", job.id]) == ExitCode.DATA_DIRECTORY


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


def test_ctrl_c_pauses(tmp_path: Path, data: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLAY_RECORDS_MAX", "1")
    process = started(data, written(tmp_path / "a.jsonl", lines * 3), "--into", "june")
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


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], ExitCode.USAGE, "--into is missing"),
        (["--into", "NO SPACES"], ExitCode.USAGE, "choose another"),
        (["--into", "live"], ExitCode.USAGE, "it is this installation's own"),
        (["--into", "x", "--users", "0%"], ExitCode.USAGE, "no share above 0 %"),
        (["--into", "x", "--users", "@nowhere"], ExitCode.USAGE, "one user id a line"),
        (["--into", "x", "--to", "yesterday"], ExitCode.USAGE, "write for example"),
        (["--into", "x", "--to", "2026-01-31T12:00"], ExitCode.USAGE, "a time with a zone"),
        (["--into", "x", "--to", "4000000000000"], ExitCode.USAGE, "lies in the future"),
        (["--into", "x", "--from", "1"], ExitCode.USAGE, "--from is for topics"),
        (["--into", "x", "--feeds", "paper"], ExitCode.USAGE, "write redis, files or none"),
        (["--into", "x", "--policy", "nowhere.toml"], ExitCode.POLICY, "nowhere.toml"),
    ],
)
def test_a_wrong_command_line_is_one_message(
    tmp_path: Path,
    data: Path,
    lines: Lines,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: ExitCode,
    said: str,
) -> None:
    path = written(tmp_path / "a.jsonl", lines[:9])
    assert cli.run(["replay", str(path), "--feeds", "files", *arguments]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not data.exists()


def test_damaged_files_are_told_and_nothing_is_half_done(
    tmp_path: Path, data: Path, lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [path for _, some in kinds_of_files(tmp_path, lines) for path in some]
    for number, path in enumerate(path for path in paths if path.suffix != ".jsonl"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert replay(path, into=f"cut{number}") == ExitCode.BAD_INPUT, path
        error = capsys.readouterr().err
        assert str(path) in error.splitlines()[-1]
        assert "fetch" in error
    assert replay(tmp_path / "nowhere.jsonl") == ExitCode.BAD_INPUT
    assert replay(written(tmp_path / "a.txt", lines)) == ExitCode.BAD_INPUT
    assert "rename the file" in capsys.readouterr().err


def test_a_namespace_that_has_state_here_is_refused(
    tmp_path: Path, data: Path, lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "a.jsonl", lines[:200])
    assert replay(path) == 0
    assert replay(path) == ExitCode.DATA_DIRECTORY
    assert "is not empty" in capsys.readouterr().err
    assert cli.run(["jobs", "cancel", the_job(data).id]) == ExitCode.BAD_INPUT
    assert "cannot become cancelled" in capsys.readouterr().err
    assert cli.run(["jobs", "show", "nobody"]) == ExitCode.BAD_INPUT
    assert cli.run(["digest", "nobody", "--rows", "disk"]) == ExitCode.USAGE
    assert "has no rows" in capsys.readouterr().err
