"""`feedrank diff` on replays of one file: what it measures and explains, its page, what it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import orjson
import pytest

from feedrank import cli
from feedrank.dataset import events as files
from feedrank.diffing.known import rebuilt_users
from feedrank.diffing.report import NOTHING_LIFTED, said
from feedrank.load import jsonl
from feedrank.load.events import Tally
from streams.errors import ExitCode
from streams.feed_heads import FeedHeads, StoredFeed
from streams.policy_file import read_policy
from streams.settings import Settings
from tests.feedrank.people_file import write_people, write_policy
from tests.services import Redis
from tests.serving.feed_store import FeedStore, entry
from topologies.comparing import sampled
from topologies.shadow_feeds import ShadowFeeds
from wire.names import Namespace

NOW_MS = 1_800_000_000_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three shadows of one file: `one` and `same` by the bundled policy, `other` by one that ages faster."""
    directory = tmp_path_factory.mktemp("diff")
    write_people(directory / "people.jsonl")
    write_policy(directory / "other.toml", ("\nage = -0.1\n", "\nage = -0.4\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEEDRANK_DATA_DIR", str(directory / "data"))
        (directory / "data").mkdir()
        file, policy = str(directory / "people.jsonl"), str(directory / "other.toml")
        for name, more in (("one", []), ("same", []), ("other", ["--policy", policy])):
            asked = ["replay", file, "--into", name, "--feeds", "files", "--partitions", "1", *more]
            assert cli.run(asked) == ExitCode.OK
        yield directory


def diff(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.run(["diff", *arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def feeds_of(data: Path, name: str) -> list[StoredFeed]:
    with ShadowFeeds(data / "data" / name) as store:
        names = Namespace(name)
        users = sorted(store.users(names, "for_you"))
        return [feed for feed in store.read(names, "for_you", users) if feed is not None]


def test_the_same_replay_twice_is_the_same(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = diff(capsys, "one", "same", "--json")
    found = orjson.loads(out)
    assert code == ExitCode.OK
    assert found["equal"] == found["same_time"] == found["users"]["compared"] == 40
    assert found["measures"]["rank_biased"]["p1"] == found["measures"]["tau"]["p1"] == 1.0
    assert (found["most_changed"], found["entered"], found["left"]) == ([], [], [])


def test_another_policy_is_measured_and_explained_by_what_it_weighs(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = diff(capsys, "one", "other", "--json", "--most", "4", "--k", "5")
    found = orjson.loads(out)
    assert found["equal"] < 40
    assert 0 < found["measures"]["overlap@5"]["mean"] < 1
    assert sum(found["measures"]["overlap@5"]["histogram"]["users"]) == 40
    most = found["most_changed"]
    assert [one["rank_biased"] for one in most] == sorted(one["rank_biased"] for one in most)
    assert most[0]["rank_biased"] <= found["measures"]["rank_biased"]["p1"]
    stored = {feed.user: feed for feed in feeds_of(data, "other")}
    for one in most:
        assert (one["a"]["exact"], one["b"]["exact"]) == (True, True)
        for item in one["items"]:
            assert item["rank_b"] is None or stored[one["user"]].ids[item["rank_b"] - 1] == item["item"]
            assert {moved["feature"] for moved in item["features"]} <= {"age"}  # nothing else was changed
            assert all(moved["a"] == moved["b"] for moved in item["features"])
    assert any(item["features"] for one in most for item in one["items"])


def test_a_feature_that_lifted_nothing_is_not_what_moved_an_item() -> None:
    same = dict.fromkeys(("source_a", "source_b", "explored_a", "explored_b"))
    still = {"feature": "age_rank", "a": 0.47, "b": 0.465, "lift": 0.001}
    moved = {"feature": "affinity", "a": 1.0, "b": 2.0, "lift": -0.25}
    assert said({"features": [moved, still], **same}) == "affinity 1 → 2 (-0.25)"
    assert said({"features": [still], **same}) == said({"features": [], **same}) == NOTHING_LIFTED


def test_rebuilding_from_the_log_gives_the_stored_feeds_and_the_same_features(data: Path) -> None:
    policy = read_policy(None)
    feeds = feeds_of(data, "one")[:20]
    past = files.past_of(jsonl.events(data / "people.jsonl", Tally(True)), policy.verbs)
    settings = Settings.load()
    tick_ms = settings.ranking.tick_s * 1_000
    known = rebuilt_users(past, policy, tick_ms, "for_you", feeds)
    assert all(known[feed.user].exact for feed in feeds)
    assert all(set(feed.ids) <= known[feed.user].features.keys() for feed in feeds)
    elsewhere = rebuilt_users(past, policy, tick_ms, "following", feeds[:1])
    assert "not ranked by features" in elsewhere[feeds[0].user].told


def test_a_feed_that_is_not_what_its_rows_give_is_said_to_be_so(data: Path) -> None:
    policy = read_policy(None)
    feed = feeds_of(data, "one")[0]
    touched = replace(feed, ids=feed.ids[1:] + feed.ids[:1])
    past = files.past_of(jsonl.events(data / "people.jsonl", Tally(True)), policy.verbs)
    known = rebuilt_users(past, policy, Settings.load().ranking.tick_s * 1_000, "for_you", [touched])
    assert known[feed.user].exact is False
    assert "NOT the stored feed" in known[feed.user].told
    other = replace(feed, model="trees-1")
    known = rebuilt_users(past, policy, Settings.load().ranking.tick_s * 1_000, "for_you", [other])
    assert "model trees-1" in known[feed.user].told


class _Tags(HTMLParser):
    """Whether every tag is closed, and what the page would load."""

    VOID = frozenset({"meta", "rect", "line", "polygon", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.svgs = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self.svgs += tag == "svg"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """<rect .../> closes itself."""

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_needs_nothing_else_and_the_terminal_says_the_same(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = diff(capsys, "one", "other", "--most", "2", "--html", str(tmp_path / "page.html"))
    assert code == ExitCode.OK
    text = (tmp_path / "page.html").read_text()
    tags = _Tags()
    tags.feed(text)
    assert (tags.open, tags.loads, tags.svgs) == ([], [], 4 + 1 + 2)
    assert not re.search(r"<script|<link|@import|url\(|https?://", text)
    assert "prefers-color-scheme: dark" in text
    assert "40 users compared" in text
    assert "40 users compared" in out
    code, _, err = diff(capsys, "one", "other", "--html", str(tmp_path))
    assert code != ExitCode.OK
    assert "--html" in err


def test_users_can_be_named_or_drawn_by_a_seed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "users").write_text("u01\nu02\nnobody\n")
    _, out, _ = diff(capsys, "one", "other", "--json", "--users", str(tmp_path / "users"))
    assert orjson.loads(out)["users"]["compared"] == 2
    _, out, _ = diff(capsys, "one", "other", "--json", "--sample", "7", "--seed", "3")
    assert orjson.loads(out)["users"]["compared"] == 7
    everyone = [f"u{n}" for n in range(2_000)]
    draws = [sampled(everyone, 500, seed) for seed in range(4)]
    assert len({tuple(draw) for draw in draws}) == 4
    assert abs(np.mean([int(user[1:]) for draw in draws for user in draw]) - 1_000) < 60


def test_what_cannot_be_compared_is_one_message(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], private_redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("REDIS_URL", private_redis.url)
    (tmp_path / "users").write_text("nobody\n")
    FeedStore(private_redis.url, "strange").write("stranger", 1, [entry("i001")], NOW_MS)
    for arguments, exit_code, words in (
        (["one", "one"], ExitCode.USAGE, "same namespace"),
        (["one", "nowhere"], ExitCode.BAD_INPUT, "nowhere has no feeds"),
        (["one", "strange"], ExitCode.BAD_INPUT, "of no user both"),
        (["one", "No!"], ExitCode.USAGE, "is not 1 to 32"),
        (["one", "other", "--p", "1"], ExitCode.USAGE, "between 0 and 1"),
        (["one", "other", "--surface", "home"], ExitCode.USAGE, "for_you, following"),
        (["one", "other", "--users", str(tmp_path / "users")], ExitCode.BAD_INPUT, "no user of"),
        (["one", "other", "--users", str(tmp_path / "none")], ExitCode.USAGE, "one user id a line"),
    ):
        code, out, err = diff(capsys, *arguments)
        assert (code, out, err.count("\n")) == (exit_code, "", 1), (arguments, err)
        assert words in err


def test_feeds_in_redis_are_compared_without_a_mark(
    private_redis: Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", private_redis.url)
    monkeypatch.setenv("FEEDRANK_DATA_DIR", str(tmp_path))
    live, new = FeedStore(private_redis.url, "live"), FeedStore(private_redis.url, "new")
    for store, items in ((live, ["a", "b", "c"]), (new, ["b", "a", "<d>"])):
        store.write("ann", 1, [entry(item) for item in items], NOW_MS)
        store.write("a}b", 1, [entry(item) for item in items[:2]], NOW_MS)
    live.write("bob", 1, [entry("a")], NOW_MS)
    before = sorted(live.redis.keys())
    with FeedHeads(Settings.load().redis) as heads:
        assert sorted(heads.users(live.names, "for_you")) == ["ann", "a}b", "bob"]
    _, out, _ = diff(capsys, "live", "new", "--json", "--most", "0", "--html", str(tmp_path / "page.html"))
    found = orjson.loads(out)
    assert found["users"] | {"sample": 0} == {
        "a": 3, "b": 2, "common": 2, "compared": 2, "sample": 0, "seed": 0, "both_empty": 0,
        "gone_meanwhile": 0,
    }  # fmt: skip
    assert found["entered"] == [{"item": "<d>", "title": "On <d>", "feeds": 1}]
    assert found["measures"]["tau"]["mean"] == -1.0
    assert "<d>" not in (tmp_path / "page.html").read_text()
    assert sorted(live.redis.keys()) == before
    new.redis.hset(new.names.feed("for_you", "ann"), "p0", b'[{"id": 1}')
    code, _, err = diff(capsys, "live", "new")
    assert (code, err.count("\n")) == (ExitCode.BAD_INPUT, 1)
    assert "what is stored for ann is no feed" in err
