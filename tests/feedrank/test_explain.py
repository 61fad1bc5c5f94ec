"""`feedrank explain` on the feeds of a replay: entries, one item, JSON, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedrank import cli
from feedrank.dataset.events import past_of
from feedrank.diffing.known import Origin
from feedrank.explaining.rows import rebuilt
from feedrank.load import jsonl
from models.score import RateLift
from streams.errors import ExitCode, OperatorError
from streams.feed_heads import StoredFeed
from streams.policy_file import read_policy
from streams.settings import Settings
from tests.feedrank.people_file import write_people, write_policy
from tests.feedrank.test_train import data_set
from wire.version import Version

USER = "u07"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A shadow `one` by the bundled policy, its feeds in files."""
    directory = tmp_path_factory.mktemp("explain")
    write_people(directory / "people.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEEDRANK_DATA_DIR", str(directory / "data"))
        patch.setenv("COLUMNS", "200")
        (directory / "data").mkdir()
        asked = ["replay", str(directory / "people.jsonl"), "--into", "one", "--feeds", "files"]
        assert cli.run([*asked, "--partitions", "1"]) == ExitCode.OK
        yield directory


def explain(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.run(["explain", *arguments, "--namespace", "one"])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_every_candidate_has_its_reasons(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = explain(capsys, USER, "--json")
    assert code == ExitCode.OK
    found = json.loads(out)
    assert found["ranked_again_is_the_stored_feed"]
    assert found["candidates"] == len(found["items"])
    dropped = [one for one in found["items"] if one["dropped_by"]]
    assert sum(found["dropped"].values()) == len(dropped)
    first = found["items"][0]
    assert first["place"] == 1
    assert first["sources"]
    assert first["why"]
    assert set(first["adds"]) == {"weak", "strong", "negative"}
    assert first["adds"]["weak"]["age"] < 0


def test_the_feed_and_one_item_in_words(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = explain(capsys, USER, "--most", "3")
    assert "ranked again it is the stored feed" in out
    assert "candidates; dropped:" in out
    found = json.loads(explain(capsys, USER, "--json")[1])
    item = found["items"][0]["id"]
    _, out, _ = explain(capsys, USER, item)
    assert f"{item}: place 1" in out
    assert "doublings of the probability" in out
    assert "age" in out
    gone = next((one for one in found["items"] if one["dropped_by"]), None)
    if gone is not None:
        assert f"dropped by the rule {gone['dropped_by']}" in explain(capsys, USER, gone["id"])[1]
    assert "was no candidate" in explain(capsys, USER, "no-such-item")[1]


def test_a_replay_by_a_trained_model(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = data_set(data / "set.parquet")
    model = str(data / "heavy")
    assert cli.run(["train", str(rows), model, "--kind", "trees", "--trees", "20"]) == ExitCode.OK
    asked = ["replay", str(data / "people.jsonl"), "--into", "two", "--feeds", "files", "--partitions", "1"]
    assert cli.run([*asked, "--model", model]) == ExitCode.OK
    capsys.readouterr()
    assert cli.run(["explain", USER, "--namespace", "two", "--json"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert found["model"].startswith("heavy-")
    assert found["ranked_again_is_the_stored_feed"]
    first = found["items"][0]
    assert first["unit"] == "doublings of the odds, beside what is usual"
    assert not first["exact"]
    assert first["adds"]["weak"]


def test_what_cannot_be_explained_is_said(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = explain(capsys, "nobody")
    assert code == ExitCode.BAD_INPUT
    assert "has no feed of 'nobody'" in err
    write_policy(data / "other.toml", ("\nage = -0.1\n", "\nage = -0.4\n"))
    code, _, err = explain(capsys, USER, "--policy", str(data / "other.toml"))
    assert code == ExitCode.BAD_INPUT
    assert "name its file with --policy" in err
    assert cli.run(["explain", USER, "--namespace", "not a name"]) != ExitCode.OK


def test_a_feed_whose_statistics_nobody_knows_says_so_and_what_to_do(data: Path) -> None:
    policy = read_policy()
    past = past_of(jsonl.events(data / "people.jsonl"), policy.verbs)
    last_ms = int(past.partitions[0].event_ms.max())
    settings = Settings.load({})
    tick_s = settings.ranking.tick_s
    version = Version(1, 1, last_ms // (tick_s * 1_000) + 1, last_ms + 2 * tick_s * 1_000)
    feed = StoredFeed(USER, str(version), version.as_of_ms, policy.version, "m", (), (), (), ())
    origin = Origin(settings, settings.names, "for_you", None, rebuild=False)
    with pytest.raises(OperatorError, match=r"what its item statistics contained; let the user visit"):
        rebuilt(origin, feed, past, policy, RateLift(policy))
