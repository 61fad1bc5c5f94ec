"""What a replay refuses, and that nothing of it is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedrank import cli
from streams.errors import ExitCode
from tests.feedrank.replaying import Lines, kinds_of_files, replay, the_job, written


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


def test_a_last_line_that_was_cut_off_is_told(
    tmp_path: Path, data: Path, lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "a.jsonl", lines[:300])
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    for more in ([], ["--dry-run"]):
        assert replay(path, *more) == ExitCode.BAD_INPUT
        assert (
            "is cut off in its last line, 300: fetch it again, or delete that line" in capsys.readouterr().err
        )
    assert not data.exists()
    path.write_bytes(whole[:-1])  # only without the last line feed
    assert replay(path) == 0


def test_bad_lines_and_what_became_of_the_rest_is_told(
    tmp_path: Path, data: Path, lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    activities = [one for one in lines if one["type"] == "activity"]
    unknown = [one | {"verb": "teleport"} for one in activities[:3]]
    path = written(tmp_path / "a.jsonl", [*lines, *activities[:2], *unknown, {"type": "riddle"}])
    assert replay(path) == 0
    said = capsys.readouterr().out
    assert "passed over 1 bad lines" in said
    assert f" of {len(activities) + 5:,} activities; " in said
    assert ", 3 dead letters" in said
    assert "warning: activities that count nowhere: 3 unknown_verb; docs/wire.md explains the reasons" in said


def test_clocks_that_disagree_are_told(
    tmp_path: Path, data: Path, lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    ahead = next(one for one in lines if one["type"] == "activity") | {"event_time": 4_000_000_000_000}
    path = written(tmp_path / "a.jsonl", [{**ahead, "activity_id": "ahead"}, *lines])
    assert replay(path) == 0
    said = capsys.readouterr().out
    assert "activities stand after others that are more than an hour newer" in said
    assert "the newest activity is of 2096-10-02T07:06:50Z, which has not come" in said
    assert replay(path, "--to", "3000000000000", into="july") == ExitCode.USAGE


def test_files_with_nothing_in_them(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(written(tmp_path / "a.jsonl", [])) == ExitCode.BAD_INPUT
    assert "nothing is in there" in capsys.readouterr().err
    (tmp_path / "b.jsonl").mkdir()
    assert replay(tmp_path / "b.jsonl") == ExitCode.BAD_INPUT
    assert "a directory, no file" in capsys.readouterr().err
    assert not data.exists()


def test_a_namespace_that_has_state_here_is_refused(
    tmp_path: Path, data: Path, lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "a.jsonl", lines[:200])
    assert replay(path) == 0
    assert "catch-up" not in capsys.readouterr().out  # positions in files are nobody's offsets
    for more in ([], ["--dry-run"]):
        assert replay(path, *more) == ExitCode.DATA_DIRECTORY
        assert "is not empty" in capsys.readouterr().err
    assert cli.run(["jobs", "resume", the_job(data).id]) == ExitCode.BAD_INPUT
    assert "is finished: it cannot become running" in capsys.readouterr().err
    assert cli.run(["jobs", "cancel", the_job(data).id]) == ExitCode.BAD_INPUT
    assert "cannot become cancelled" in capsys.readouterr().err
    assert cli.run(["jobs", "show", "nobody"]) == ExitCode.BAD_INPUT
    assert cli.run(["digest", "nobody", "--rows", "disk"]) == ExitCode.USAGE
    assert "has no rows" in capsys.readouterr().err
