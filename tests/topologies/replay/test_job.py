"""A job moves forward in version only, whoever asks for what at once; and one process carries it out."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.concerns import KafkaSettings
from streams.errors import ExitCode, OperatorError
from topologies.replay.custody import Custody, move, submit
from topologies.replay.job import NEXT, Entry, Job, State, fold
from topologies.replay.job_log import FileJobLog, JobLog, KafkaJobLog
from wire.names import JOBS

ROOT = Path(__file__).resolve().parents[3]


def entry(number: int, version: int, state: State | None) -> Entry:
    return Entry("j", version, str(number), "ann@here", number, state)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([*State, None])), max_size=30))
def test_whatever_is_written_versions_have_no_hole_and_states_follow(
    written: list[tuple[int, State | None]],
) -> None:
    jobs = fold(entry(number, version, state) for number, (version, state) in enumerate(written))
    history = jobs["j"].history if jobs else []
    assert [one.version for one in history] == list(range(1, len(history) + 1))
    for before, after in itertools.pairwise([None, *(one.state for one in history)]):
        assert after in NEXT[before]


def test_what_is_over_stays_so() -> None:
    assert [state for state in State if not NEXT[state]] == [State.FINISHED, State.CANCELLED]


def contract(log: JobLog, directory: Path) -> None:
    """What both logs promise."""
    job = submit(log, "j", "june", directory)
    assert (job.state, job.version, job.namespace) == (State.SUBMITTED, 1, "june")
    running = move(log, job, State.RUNNING, lease_until_ms=5)
    assert log.append(Entry("j", 2, "life", "ann", 1, lease_until_ms=9, done=3, total=7))
    assert (log.jobs()["j"].lease_until_ms, log.jobs()["j"].done) == (9, 3)
    with pytest.raises(OperatorError, match="moved by somebody else"):
        move(log, job, State.CANCELLED)  # seen before it ran
    paused = move(log, running, State.PAUSED, "lunch")
    assert not log.append(Entry("j", 2, "late", "ann", 1, lease_until_ms=99))
    with pytest.raises(OperatorError, match="paused: it cannot become finished"):
        move(log, paused, State.FINISHED)
    again = log.jobs()["j"]
    assert [one.state for one in again.history] == [State.SUBMITTED, State.RUNNING, State.PAUSED]
    assert again.holder.note == "lunch"
    assert "@" in again.holder.who


def test_a_log_in_a_file(tmp_path: Path) -> None:
    contract(FileJobLog(tmp_path), tmp_path)


def test_a_line_that_was_cut_off_never_counted(tmp_path: Path) -> None:
    log = FileJobLog(tmp_path)
    job = submit(log, "j", "june", tmp_path)
    path = tmp_path / "jobs.jsonl"
    with path.open("ab") as file:
        file.write(b'{"job":"j","version":2,"st')
    assert log.jobs()["j"].version == 1
    assert move(log, job, State.RUNNING).version == 2
    path.write_bytes(b"nonsense\n" + path.read_bytes())
    with pytest.raises(OperatorError, match=r"line 1 is damaged"):
        log.jobs()


@pytest.mark.kafka
def test_a_log_on_a_topic(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, namespace: str
) -> None:
    monkeypatch.setattr("topologies.replay.job_log.JOBS", f"{namespace}.{JOBS}")
    settings = KafkaSettings(KAFKA_BOOTSTRAP_SERVERS=kafka)  # type: ignore[call-arg]
    assert KafkaJobLog(settings).jobs() == {}
    contract(KafkaJobLog(settings), tmp_path)


class Meanwhile:
    """A log in which somebody else submits a job of the same namespace at the moment before ours."""

    def __init__(self, log: JobLog) -> None:
        self._log = log

    def jobs(self) -> dict[str, Job]:
        return self._log.jobs()

    def append(self, entry: Entry) -> bool:
        if entry.state is State.SUBMITTED:
            self._log.append(dataclasses.replace(entry, job="other", entry="other"))
        return self._log.append(entry)


def test_of_two_jobs_of_a_namespace_the_first_stays(tmp_path: Path) -> None:
    log = FileJobLog(tmp_path)
    with pytest.raises(OperatorError, match=r"job other of .* builds into june and is submitted") as refused:
        submit(Meanwhile(log), "j", "june", tmp_path)
    assert refused.value.exit_code is ExitCode.NOT_READY
    assert {job.id: job.state for job in log.jobs().values()} == {
        "other": State.SUBMITTED,
        "j": State.CANCELLED,
    }
    with pytest.raises(OperatorError, match="give that one up: `feedrank jobs cancel other`"):
        submit(log, "k", "june", tmp_path)
    assert "k" not in log.jobs()
    assert submit(log, "k", "july", tmp_path).state is State.SUBMITTED
    move(log, log.jobs()["other"], State.CANCELLED)
    assert submit(log, "l", "june", tmp_path).state is State.SUBMITTED


def test_one_process_at_a_time(tmp_path: Path) -> None:
    log = FileJobLog(tmp_path)
    job = submit(log, "j", "june", tmp_path)
    with Custody(log, job, tmp_path) as custody:
        with pytest.raises(OperatorError, match="Two processes cannot run one job") as refused:
            Custody(log, log.jobs()["j"], tmp_path).__enter__()
        assert refused.value.exit_code is ExitCode.FENCED
        custody.finish(State.PAUSED)
    with Custody(log, log.jobs()["j"], tmp_path) as custody:
        assert custody.job.version == 4
        custody.finish(State.FINISHED)


def test_what_ends_it_is_recorded(tmp_path: Path) -> None:
    log = FileJobLog(tmp_path)
    job = submit(log, "j", "june", tmp_path)
    with pytest.raises(OperatorError), Custody(log, job, tmp_path):
        raise OperatorError("the disk is full; free space")
    assert log.jobs()["j"].state is State.FAILED
    assert log.jobs()["j"].holder.note == "the disk is full; free space"


def test_whoever_moves_it_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topologies.replay.custody.RENEW_S", 0.0)
    log = FileJobLog(tmp_path)
    job = submit(log, "j", "june", tmp_path)
    with Custody(log, job, tmp_path) as custody:
        assert custody.goes_on(1, 10)
        move(log, log.jobs()["j"], State.PAUSED)
        assert not custody.goes_on(2, 10)
    assert log.jobs()["j"].state is State.PAUSED


def test_a_lease_of_another_machine_is_respected(tmp_path: Path) -> None:
    log = FileJobLog(tmp_path)
    job = submit(log, "j", "june", tmp_path)
    job = move(log, job, State.RUNNING, host="elsewhere", pid=1, lease_until_ms=1 << 50)
    with pytest.raises(OperatorError, match="run by process 1 on elsewhere"):
        Custody(log, job, tmp_path).__enter__()
    log.append(Entry("j", 2, "x", "x", 1, lease_until_ms=1))
    with Custody(log, log.jobs()["j"], tmp_path) as custody:
        custody.finish(State.FINISHED)


KILLED = """
import os, sys
from pathlib import Path
from topologies.replay.custody import Custody, submit
from topologies.replay.job_log import FileJobLog

where = Path(sys.argv[1])
log = FileJobLog(where)
Custody(log, submit(log, "j", "june", where), where).__enter__()
os.kill(os.getpid(), 9)
"""


def test_a_process_that_dies_leaves_its_job_to_the_next(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, cwd=ROOT)
    log = FileJobLog(tmp_path)
    assert log.jobs()["j"].state is State.RUNNING
    with Custody(log, log.jobs()["j"], tmp_path) as custody:
        assert custody.job.holder.pid == os.getpid()
        custody.finish(State.FINISHED)
    assert Job("j").state is None
