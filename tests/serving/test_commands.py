"""`feedrank serve` and `feedrank act` as processes and as a person sees them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import orjson
import pytest

from feedrank import act_command, serve_command
from feedrank.act_command import act_and_wait
from feedrank.cli import run
from streams.errors import ExitCode, OperatorError
from tests.services import free_port
from tests.serving.feed_store import FeedStore, entry
from tests.waiting import GUARD_S, ended, slowness, started


def environment(redis_url: str, namespace: str, port: int) -> dict[str, str]:
    return {
        "REDIS_URL": redis_url,
        "FEEDRANK_NAMESPACE": namespace,
        "API_PORT": str(port),
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
    }


def test_serve_listens_says_where_and_stops_when_told(redis_url: str, namespace: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", "feedrank.cli", "serve"]
    settings = os.environ | environment(redis_url, namespace, port)
    with started(command, env=settings, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "serving feeds" not in said:
            line = process.stderr.readline()
            assert line, f"ended early: {said}"
            said += line
        assert f"http://127.0.0.1:{port}/" in said
        with socket.create_connection(("127.0.0.1", port), GUARD_S) as line_out:
            line_out.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            assert b"200 OK" in line_out.recv(200)
        process.terminate()
        assert ended(process)[0] == ExitCode.OK


def test_a_port_that_is_taken_is_one_message_and_its_exit_code(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for name, value in environment(redis_url, namespace, taken.getsockname()[1]).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(serve_command, "setup", lambda _: None)  # it would take over pytest's logging
        assert run(["serve"]) == ExitCode.PORT_TAKEN
    said = capsys.readouterr().err.splitlines()
    assert "API_PORT" in said[-1]
    assert sum(line.startswith("feedrank:") for line in said) == 1


def test_act_without_an_api_says_what_to_do_and_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert run(["act", "you", "like", "i1", "--api", url]) == ExitCode.API_UNREACHABLE
    [line] = capsys.readouterr().err.splitlines()
    assert f"the API at {url} does not answer (nothing listens there); start `feedrank serve`" in line


def test_act_at_something_else_than_an_api_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.handle_request, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{other.server_port}"
        assert run(["act", "you", "like", "i1", "--api", url]) == ExitCode.API_UNREACHABLE
        thread.join(GUARD_S)
    [line] = capsys.readouterr().err.splitlines()
    assert "what listens there is no API of feedrank" in line


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://127.0.0.1:1", "http://", "nonsense"])
def test_a_url_that_is_none_is_a_wrong_command_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["act", "you", "like", "i1", "--api", url]) == ExitCode.USAGE
    [line] = capsys.readouterr().err.splitlines()
    assert "is not the URL of an API" in line


class Ranked:
    """A feed that moves once its user acts."""

    def __init__(self, moves: bool = True) -> None:
        self.moves, self.acted, self.asked = moves, 0, 0

    async def page(self, user: str, surface: str) -> dict[str, Any]:
        self.asked += 1
        moved = self.moves and self.acted and self.asked > 3
        version = "2" if moved else "1"
        return {"version": version, "source": "feed", "entries": [], "surface": surface, "user": user}

    async def send(self, activity: dict[str, Any]) -> None:
        self.acted += 1


def test_act_waits_for_the_newer_feed() -> None:
    before, after, _ = asyncio.run(act_and_wait(Ranked(), {"actor": "you"}, "for_you", 5))
    assert (before["version"], after["version"]) == ("1", "2")


def test_act_ends_when_no_newer_feed_comes() -> None:
    started = time.monotonic()
    before, after, _ = asyncio.run(act_and_wait(Ranked(moves=False), {"actor": "you"}, "for_you", 0.1))
    assert before["version"] == after["version"]
    assert time.monotonic() - started < 3 * slowness()


def test_a_fallback_that_changes_is_no_newer_feed() -> None:
    class Fallbacks(Ranked):
        async def page(self, user: str, surface: str) -> dict[str, Any]:
            return await super().page(user, surface) | {"source": "global", "reason": "no_feed"}

    before, after, took_s = asyncio.run(act_and_wait(Fallbacks(), {"actor": "you"}, "for_you", 0.3))
    assert (before["version"], after["version"]) == ("1", "2")
    assert took_s >= 0.3


def test_act_through_kafka_refuses_a_verb_that_the_policy_lacks(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(redis_url, namespace, 0).items():
        monkeypatch.setenv(name, value)
    assert run(["act", "you", "adore", "i1", "--kafka"]) == ExitCode.BAD_INPUT
    assert "the policy declares" in capsys.readouterr().err


def test_act_through_a_kafka_that_is_away_is_one_message_with_its_address(
    redis_url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("serving.sink.DELIVERY_MS", 200)
    names = environment(redis_url, namespace, 0)
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert run(["act", "you", "like", "i1", "--kafka"]) == ExitCode.BROKER_UNREACHABLE
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(
        f"feedrank: Kafka at {names['KAFKA_BOOTSTRAP_SERVERS']} does not take activities: "
    )
    assert caplog.records == []


def test_act_prints_where_things_went(capsys: pytest.CaptureFixture[str]) -> None:
    from feedrank.act_command import _print

    def page(version: str, ids: list[str]) -> dict[str, Any]:
        rows = [orjson.loads(orjson.dumps(entry(i))) for i in ids]
        return {"version": version, "source": "feed", "reason": "", "entries": rows}

    done = {"actor": "you", "verb": "like", "object": "i2"}
    _print(page("1", ["i0", "i1", "i2", "old"]), page("2", ["i2", "[b]new", "i0", "i1"]), done, 10)
    lines = capsys.readouterr().out.splitlines()
    cells = [line.split()[:5] for line in lines[2:6]]
    assert cells[0][:4] == ["3", "1", "↑", "2"]
    assert cells[1][:4] == ["-", "2", "new", "[b]new"]
    assert cells[2][:4] == ["1", "3", "↓", "2"]
    assert "no longer there: old" in lines


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(("moves", "wait_s", "code"), [(True, 5, 0), (False, 0.1, 10), (False, 0, 0)])
def test_act_fails_when_no_newer_feed_comes_in_time(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    moves: bool,
    wait_s: float,
    code: int,
    as_json: bool,
) -> None:
    async def through(url: str, activity: dict[str, Any], surface: str, wait_s: float) -> Any:
        return await act_and_wait(Ranked(moves), activity, surface, wait_s)

    monkeypatch.setattr(act_command, "_through_api", through)
    arguments = ["act", "you", "like", "i1", "--wait-s", str(wait_s), *["--json"] * as_json]
    assert run(arguments) == code
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == (code != 0)
    assert all("like was taken, but you has no newer feed" in line for line in lines)
    assert ("a newer feed after" in said.out) == (moves and not as_json)
    if as_json:
        assert orjson.loads(said.out)["after"]["version"] == ("2" if moves else "1")


def test_act_says_that_an_api_which_hangs_did_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(act_command, "REQUEST_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert run(["act", "you", "like", "i1", "--api", url]) == ExitCode.STALLED
    [line] = capsys.readouterr().err.splitlines()
    assert f"{url} did not answer within" in line


def test_a_real_feed_is_read_through_the_api(redis_url: str, namespace: str) -> None:
    """ThroughApi and the API agree on addresses and fields, odd ids included."""
    from aiohttp.test_utils import TestServer

    from feedrank.act_command import ThroughApi
    from serving.api import Api
    from serving.reader import AsyncFeedReader
    from tests.serving.test_api import VERBS, ListSink

    user = f"a/b c%{namespace}"
    FeedStore(redis_url, namespace).write(user, 1, [entry("i0")], time.time_ns() // 1_000_000)

    async def use() -> None:
        import aiohttp

        sink = ListSink()
        reader = AsyncFeedReader.from_url(redis_url, namespace=namespace)
        async with (
            TestServer(Api(reader, sink, VERBS).application()) as server,
            aiohttp.ClientSession() as session,
        ):
            way = ThroughApi(session, str(server.make_url("")).rstrip("/"))
            page = await way.page(user, "for_you")
            assert [e["id"] for e in page["entries"]] == ["i0"]
            await way.send({"actor": user, "verb": "like", "object": "i0", "target": None})
            assert sink.sent[0]["actor"] == user
            with pytest.raises(OperatorError, match="object is missing"):
                await way.send({"actor": user, "verb": "like"})
        await reader.close()

    asyncio.run(use())
