"""`feedrank inspect` on a replayed file: what it shows is what the file says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest

from feedrank import cli
from models.examination import UNIT, examination
from streams.errors import ExitCode
from tests.feedrank.people_file import write_people

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """The activities of a file that was replayed into the shadow `one`."""
    directory = tmp_path_factory.mktemp("inspect")
    write_people(directory / "people.jsonl")
    (directory / "data").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEEDRANK_DATA_DIR", str(directory / "data"))
        patch.setenv("COLUMNS", "160")
        asked = ["replay", str(directory / "people.jsonl"), "--into", "one", "--feeds", "files"]
        assert cli.run([*asked, "--partitions", "3"]) == ExitCode.OK
        read = map(json.loads, (directory / "people.jsonl").read_text().splitlines())
        yield [line for line in read if line["type"] == "activity"]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.run(["inspect", *arguments, "--namespace", "one"])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_users_numbers_are_the_files(
    lines: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = shown(capsys, "user", "u05", "--json")
    found = orjson.loads(out)
    mine = [line for line in lines if line["actor"] == "u05"]
    assert code == ExitCode.OK
    assert (found["records"], found["newest_ms"]) == (len(mine), mine[-1]["event_time"])
    week = found["windows"]["d1"]
    assert week["sums"]["exposure"] == sum(line["verb"] == "impression" for line in mine)
    first = week["begins_ms"] // DAY_MS
    for day, count in enumerate(week["counts"]["strong"]):
        strong = (line for line in mine if line["verb"] in ("like", "share"))
        assert count == sum(line["event_time"] // DAY_MS == first + day for line in strong)
    engaged = [line for line in mine if line["verb"] in ("click", "like", "share", "hide")]
    assert [one["verb"] for one in found["engagements"]] == [e["verb"] for e in engaged[::-1][:16]]
    items = [one["item"] for one in found["engagements"]]
    assert all(item.startswith(f"{e['object']} (On ") for item, e in zip(items, engaged[::-1], strict=False))
    followed = [line["object"] for line in mine if line["verb"] == "follow"]
    assert [edge["name"] for edge in found["graph"]["follows"]["newest"]] == list(
        dict.fromkeys(followed[::-1])
    )
    shows = [line["object"] for line in mine if line["verb"] == "impression"]
    assert found["seen"]["items"] == len(set(shows))
    assert all(one["item"].partition(" ")[0] in shows for one in found["seen"]["most"])


def test_an_items_windows_are_masked_at_the_time_asked_for(
    lines: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    about = [line for line in lines if line["object"] == "i007"]
    at_ms = about[len(about) // 2]["event_time"]
    code, out, _ = shown(capsys, "item", "i007", "--at", str(at_ms), "--json")
    found = orjson.loads(out)
    assert code == ExitCode.OK
    assert (found["author"], found["title"][:3]) == ("a7", "On ")
    newest = about[-1]["event_time"] // 3_600_000
    buckets = range(max(at_ms // 3_600_000, newest) - 23, at_ms // 3_600_000 + 1)
    shows = sum(line["verb"] == "impression" and line["event_time"] // 3_600_000 in buckets for line in about)
    assert found["windows"]["h1"]["sums"]["exposure"] == shows
    assert len(found["windows"]["h1"]["bars"]["exposure"]) == 24
    week = range(max(at_ms, about[-1]["event_time"]) // DAY_MS - 6, at_ms // DAY_MS + 1)
    places = [
        line.get("position", -1)
        for line in about
        if line["verb"] == "impression" and line["event_time"] // DAY_MS in week
    ]
    assert found["examined_7d"] == examination(np.array(places)).sum() / UNIT
    assert [ring["whole"] for ring in found["windows"].values()] == [False, False, True]


def test_text_says_it_in_words(lines: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    follower = next(line["actor"] for line in lines if line["verb"] == "follow")
    code, out, _ = shown(capsys, "user", follower)
    assert code == ExitCode.OK
    for words in (f"user {follower}", "last engagements", "last week, by day", "liked", "follows:", "█"):
        assert words in out
    code, out, _ = shown(capsys, "item", "i007", "--no-names")
    assert code == ExitCode.OK
    assert "names were not asked for" in out
    assert "last engagers" in out
    assert "each as much as its place is looked at" in out


def test_what_is_not_there_is_one_message(
    lines: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, exit_code, words in (
        (["user", "nobody"], ExitCode.BAD_INPUT, "no row of user 'nobody'"),
        (["item", "nothing"], ExitCode.BAD_INPUT, "no row of item 'nothing'"),
        (["user", "u05", "--at", "noon"], ExitCode.USAGE, "--at noon"),
        (["user", "u05", "--rows", "memory"], ExitCode.USAGE, "auto, topics or disk"),
    ):
        code, out, err = shown(capsys, *arguments)
        assert (code, out, err.count("\n")) == (exit_code, "", 1), arguments
        assert words in err
    assert cli.run(["inspect", "user", "u05", "--namespace", "two", "--rows", "disk"]) == ExitCode.USAGE
    assert "there is no replay in" in capsys.readouterr().err
