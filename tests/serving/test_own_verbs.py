"""A policy that renames every verb: the API goes by what its verbs are, not by their names."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import orjson
import pytest

from feedrank import serve_command
from feedrank.cli import run
from feedrank.serve_command import declared_verbs
from serving.verbs import Verbs
from streams.errors import ExitCode
from streams.settings import Settings
from tests.serving.test_api import Web, serve

BUNDLED = Path(__file__).resolve().parents[2] / "models" / "default_policy.toml"
THEIRS = {
    "visit": "opened",
    "hide": "dismiss",
    "undo": "revoke",
    "block": "shun",
    "mute": "silence",
    "follow": "subscribe",
    "like": "applaud",
}
AT_MS = 1_700_000_000_000


def renamed(folder: Path, left_out: str = "") -> Verbs:
    """The verbs of a copy of the bundled policy under names of its own, without `left_out`."""
    text = BUNDLED.read_text()
    for ours, theirs in THEIRS.items():
        text = text.replace(f"[verbs.{ours}]", f"[verbs.{theirs}]")
    if left_out:
        text = re.sub(rf"\[verbs\.{left_out}\]\n(?:.+\n)*", "", text)
    path = folder / "policy.toml"
    path.write_text(text)
    return declared_verbs(Settings.load({"FEEDRANK_POLICY": str(path)}))


@pytest.fixture
def reading(redis_url: str, namespace: str) -> Any:
    return lambda use, verbs: serve(redis_url, namespace, use, verbs)


def test_the_read_side_knows_the_verbs_by_what_they_are(tmp_path: Path) -> None:
    verbs = renamed(tmp_path)
    assert (verbs.visit, set(verbs.undoes)) == ("opened", {"revoke"})
    assert verbs.hides == {"dismiss", "not_interested", "report"}
    assert verbs.blocks == {"shun", "silence"}
    assert {"applaud", "subscribe"} < verbs.names
    assert verbs.names.isdisjoint(THEIRS)


async def read(web: Web) -> None:
    web.write(1)
    await web.feed()


def test_a_read_is_told_with_the_verb_that_is_declared(reading: Any, tmp_path: Path) -> None:
    done = reading(read, renamed(tmp_path))
    assert [v["verb"] for v in done.sink.offered] == ["opened"]


def test_without_a_verb_for_visits_reads_are_not_told(reading: Any, tmp_path: Path) -> None:
    """They would all be dead letters (unknown_verb)."""
    done = reading(read, renamed(tmp_path, left_out="opened"))
    assert done.sink.offered == []


def test_an_undo_by_another_name_is_checked_like_one(reading: Any, tmp_path: Path) -> None:
    async def use(web: Web) -> None:
        undo = {"actor": web.user, "verb": "revoke", "object": "i1"}
        status, body = await web.post(undo)
        assert (status, "an undo needs" in body["message"]) == (400, True)
        status, body = await web.post(undo | {"undone_verb": "revoke", "undone_event_time": AT_MS})
        assert (status, "cannot be undone" in body["message"]) == (400, True)
        assert web.sink.sent == []

    reading(use, renamed(tmp_path))


@pytest.mark.parametrize(
    "act",
    [
        {"verb": "dismiss", "object": "i1"},
        {"verb": "report", "object": "i1"},
        {"verb": "shun", "object": "ann"},
        {"verb": "silence", "object": "ann", "target": "author"},
    ],
)
def test_hiding_by_another_name_hides_at_once_and_comes_back(
    reading: Any, tmp_path: Path, act: dict[str, str]
) -> None:
    async def use(web: Web) -> None:
        web.write(1, 3)
        mine = act | {"actor": web.user}
        await web.post(mine)
        assert "i1" not in [entry["id"] for entry in (await web.feed(peek="1"))["entries"]]
        await web.post(mine | {"verb": "revoke", "undone_verb": act["verb"], "undone_event_time": AT_MS})
        assert len((await web.feed(peek="1"))["entries"]) == 3

    reading(use, renamed(tmp_path))


def test_a_name_of_the_bundled_policy_means_nothing_here(reading: Any, tmp_path: Path) -> None:
    async def use(web: Web) -> None:
        status, body = await web.post({"actor": web.user, "verb": "hide", "object": "i1"})
        assert (status, body["error"]) == (400, "wrong_request")

    reading(use, renamed(tmp_path))


def test_the_page_acts_with_the_verbs_that_are_declared(reading: Any, tmp_path: Path) -> None:
    async def use(web: Web) -> None:
        text = await (await web.client.get("/")).text()
        [line] = [line for line in text.splitlines() if line.startswith("const VERBS")]
        assert orjson.loads(line.partition("=")[2].partition(";")[0]) == {
            "like": "applaud",
            "follow": "subscribe",
            "hide": "dismiss",
            "undo": "revoke",
            "visit": None,
        }
        assert not re.search(r"(verb: |button\(.*\], )\"", text), "a verb that is written into the page"

    reading(use, renamed(tmp_path, left_out="opened"))


def test_serve_says_that_no_verb_can_stand_for_a_visit(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    renamed(tmp_path, left_out="opened")
    monkeypatch.setattr(serve_command, "setup", lambda _: None)  # it would take over pytest's logging
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("FEEDRANK_POLICY", str(tmp_path / "policy.toml"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("API_PORT", str(taken.getsockname()[1]))
        assert run(["serve"]) == ExitCode.PORT_TAKEN
    assert "the policy has no verb for visits" in caplog.text
