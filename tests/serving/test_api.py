"""The HTTP API: pages out, activities in, and every error as JSON that says what to do."""

from __future__ import annotations

import asyncio
import io
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from serving.activities import Activity
from serving.api import BODY_BYTES_MAX, Api
from serving.reader import AsyncFeedReader
from serving.sink import ActivitiesUnavailableError
from serving.verbs import DeclaredVerb, Verbs
from tests.services import free_port
from tests.serving.feed_store import FeedStore, entry, version

JSON = {"Content-Type": "application/json"}
VERBS = Verbs.of(
    [
        DeclaredVerb("like", "strong"),
        DeclaredVerb("hide", "negative", affinity=-8),
        DeclaredVerb("undo", "undo"),
        DeclaredVerb("visit", "weak"),
        DeclaredVerb("mute", "graph", "mute"),
    ]
)


class ListSink:
    """Keeps what it gets; `down` refuses as a Kafka that is away does."""

    def __init__(self) -> None:
        self.sent: list[Activity] = []
        self.offered: list[Activity] = []
        self.failed = 0
        self.down = False

    async def send(self, activities: Sequence[Activity]) -> None:
        if self.down:
            raise ActivitiesUnavailableError("Kafka does not take activities; check KAFKA_BOOTSTRAP_SERVERS")
        self.sent += activities

    def offer(self, activity: Activity) -> None:
        self.failed += self.down
        self.offered.append(activity)

    def close(self) -> None:
        pass


class Web:
    """The API of one namespace, and what stands behind it."""

    def __init__(self, url: str, namespace: str) -> None:
        self.store = FeedStore(url, namespace)
        self.sink = ListSink()
        self.user = f"user-{uuid.uuid4().hex}"
        self.client: TestClient[Any, Any]

    def write(self, number: int, items: int = 60) -> None:
        rows = [entry(f"i{i}") for i in range(items)]
        assert self.store.write(self.user, number, rows, time.time_ns() // 1_000_000) == 1

    async def feed(self, user: str | None = None, **query: str) -> dict[str, Any]:
        response = await self.client.get(f"/feeds/{user or self.user}", params=query)
        found: dict[str, Any] = await response.json()
        return found | {"status": response.status}

    async def post(self, body: object) -> tuple[int, dict[str, Any]]:
        response = await self.client.post("/activities", json=body)
        return response.status, await response.json()


Use = Callable[[Web], Awaitable[None]]


@pytest.fixture
def web(redis_url: str, namespace: str) -> Callable[[Use], Web]:
    """web(use) runs `use` against an API that listens."""
    return lambda use: serve(redis_url, namespace, use)


def serve(url: str, namespace: str, use: Use, verbs: Verbs = VERBS) -> Web:
    web = Web(url, namespace)

    async def run() -> None:
        reader = AsyncFeedReader.from_url(url, namespace=namespace)
        api = Api(reader, web.sink, verbs)
        async with TestClient(TestServer(api.application())) as web.client:
            await use(web)
        await reader.close()

    asyncio.run(run())
    return web


Run = Callable[[Use], Web]


def test_pages_go_on_with_their_cursor(web: Run) -> None:
    async def use(web: Web) -> None:
        web.write(1)
        one = await web.feed(limit="10")
        web.write(2, 1)
        two = await web.feed(limit="10", cursor=one["cursor"])
        assert [e["id"] for e in one["entries"] + two["entries"]] == [f"i{i}" for i in range(20)]
        assert two["slate_id"].endswith(f"{version(1)}:1")
        first = one["entries"][0]
        assert first["title"] == "On i0"
        assert first["why"] == ["you follow ann"]

    web(use)


def test_a_read_is_one_visit_however_often_it_is_made(web: Run) -> None:
    async def use(web: Web) -> None:
        web.write(1)
        page = await web.feed()
        await web.feed()
        await web.feed(cursor=page["cursor"])

    done = web(use)
    assert [(v["actor"], v["verb"]) for v in done.sink.offered] == [(done.user, "visit")]


def test_a_peek_is_no_visit_and_leaves_no_trace(web: Run) -> None:
    async def use(web: Web) -> None:
        web.write(1)
        one, two = await web.feed(peek="1"), await web.feed(peek="1")
        assert one["entries"] == two["entries"]
        assert web.sink.offered == []

    web(use)


def test_an_older_feed_than_asked_for_is_a_labelled_fallback(web: Run) -> None:
    async def use(web: Web) -> None:
        web.write(1)
        page = await web.feed(min_version=version(2))
        assert (page["source"], page["reason"]) == ("global", "older_than_min_version")

    web(use)


@pytest.mark.parametrize(
    ("query", "code", "says"),
    [
        ({"limit": "many"}, "wrong_request", "give a number"),
        ({"limit": "²"}, "wrong_request", "give a number"),
        ({"limit": "0"}, "wrong_request", "limit is 0; choose 1 to 100"),
        ({"limit": "-1"}, "wrong_request", "limit is -1; choose 1 to 100"),
        ({"limit": "100000"}, "wrong_request", "limit is 100000; choose 1 to 100"),
        ({"limit": "9" * 5_000}, "wrong_request", "9; choose 1 to 100"),
        ({"surface": "nowhere"}, "wrong_request", "for_you"),
        ({"cursor": "abc"}, "wrong_cursor", "without a cursor"),
        ({"min_version": "1"}, "wrong_request", "min_version"),
        ({"colour": "red"}, "wrong_request", "not a parameter"),
    ],
)
def test_wrong_queries_are_explained(web: Run, query: dict[str, str], code: str, says: str) -> None:
    async def use(web: Web) -> None:
        got = await web.feed(**query)
        assert (got["status"], got["error"]) == (400, code)
        assert says in got["message"]

    web(use)


@pytest.mark.parametrize("user", ["a%2Fb", "%7B%7D", "%C3%BC", "a%20b%3Fc%25"])
def test_any_id_can_be_asked_for(web: Run, user: str) -> None:
    async def use(web: Web) -> None:
        from yarl import URL

        response = await web.client.get(URL(f"/feeds/{user}", encoded=True))
        assert response.status == 200
        assert (await response.json())["user"] == URL(f"/{user}", encoded=True).path[1:]

    web(use)


def test_posted_activities_are_acknowledged_with_their_ids(web: Run) -> None:
    async def use(web: Web) -> None:
        one = {"actor": web.user, "verb": "like", "object": "i1"}
        status, body = await web.post([one, one | {"activity_id": "mine"}])
        assert (status, body["accepted"], body["activity_ids"][1]) == (202, 2, "mine")
        assert [a["activity_id"] for a in web.sink.sent] == body["activity_ids"]

    web(use)


def test_one_wrong_activity_and_nothing_is_sent(web: Run) -> None:
    async def use(web: Web) -> None:
        good = {"actor": web.user, "verb": "like", "object": "i1"}
        status, body = await web.post([good, good | {"verb": "adore"}])
        assert (status, body["error"]) == (400, "wrong_request")
        assert "activity 1" in body["message"]
        assert web.sink.sent == []

    web(use)


def test_what_is_hidden_is_gone_at_the_next_read_and_comes_back_with_undo(web: Run) -> None:
    async def use(web: Web) -> None:
        web.write(1, 3)
        hide = {"actor": web.user, "verb": "hide", "object": "i1"}
        await web.post(hide)
        page = await web.feed(peek="1")
        assert [e["id"] for e in page["entries"]] == ["i0", "i2"]
        assert page["dropped"] == [{"rank": 1, "id": "i1", "why": "hidden"}]
        await web.post(hide | {"verb": "undo", "undone_verb": "hide", "undone_event_time": 1_700_000_000_000})
        assert len((await web.feed(peek="1"))["entries"]) == 3

    web(use)


def test_feeds_are_served_while_kafka_is_away(web: Run) -> None:
    async def use(web: Web) -> None:
        web.write(1)
        web.sink.down = True
        response = await web.client.post(
            "/activities", json={"actor": web.user, "verb": "like", "object": "i1"}
        )
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert "same activity_id" in (await response.json())["message"]
        assert (await web.feed())["status"] == 200
        assert (await web.client.get("/readyz")).status == 200
        assert "feedrank_api_unsent_activities 1.0" in await (await web.client.get("/metrics")).text()

    web(use)


def test_without_redis_feeds_are_503_and_activities_are_taken(namespace: str) -> None:
    async def use(web: Web) -> None:
        response = await web.client.get("/feeds/ann")
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert "REDIS_URL" in (await response.json())["message"]
        assert (await web.client.get("/readyz")).status == 503
        assert (await web.client.get("/livez")).status == 200
        status, body = await web.post({"actor": "ann", "verb": "hide", "object": "i1"})
        assert (status, body["hidden_at_once"]) == (202, False)

    serve(f"redis://127.0.0.1:{free_port()}/0", namespace, use)


def test_a_form_or_anything_but_json_is_refused(web: Run) -> None:
    """A page elsewhere can make a browser post a form without asking us first, JSON it can not."""

    async def use(web: Web) -> None:
        response = await web.client.post("/activities", data=b'{"actor":"ann"}')
        assert response.status == 400
        assert "application/json" in (await response.json())["message"]

    web(use)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nope", 404), ("GET", "/activities", 405), ("PUT", "/feeds/a", 405)],
)
def test_wrong_addresses_are_json_too(web: Run, method: str, path: str, status: int) -> None:
    async def use(web: Web) -> None:
        response = await web.client.request(method, path)
        assert response.status == status
        assert (await response.json()).keys() == {"error", "message"}

    web(use)


def test_a_body_that_is_too_large_is_refused(web: Run) -> None:
    async def use(web: Web) -> None:
        body = b"[" + b" " * BODY_BYTES_MAX + b"]"
        response = await web.client.post("/activities", data=io.BytesIO(body), headers=JSON)
        assert (response.status, (await response.json())["error"]) == (413, "too_large")

    web(use)


def test_a_defect_is_a_500_without_its_inside(
    web: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(AsyncFeedReader, "page", broken)

    async def use(web: Web) -> None:
        got = await web.feed()
        assert (got["status"], got["error"]) == (500, "internal")
        assert "secret" not in str(got)

    web(use)
    assert "a request failed" in caplog.text


def test_user_ids_are_no_part_of_a_log_line(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    async def use(web: Web) -> None:
        await web.feed("somebody")
        await web.post({"actor": "somebody", "verb": "hide", "object": "i1"})

    with caplog.at_level("DEBUG", logger="serving"):
        serve(f"redis://127.0.0.1:{free_port()}/0", namespace, use)
    assert caplog.records
    assert "somebody" not in caplog.text


def test_the_page_is_one_file_that_loads_nothing(web: Run) -> None:
    async def use(web: Web) -> None:
        response = await web.client.get("/")
        text = await response.text()
        assert response.content_type == "text/html"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        for outside in ("http://", "https://", '<link rel="stylesheet', "<script src", "innerHTML", "eval("):
            assert outside not in text

    web(use)


def test_metrics_count_requests_and_pages(web: Run) -> None:
    async def use(web: Web) -> None:
        web.write(1)
        await web.feed()
        await web.feed(limit="0")
        text = await (await web.client.get("/metrics")).text()
        assert 'feedrank_api_requests_total{route="/feeds/{user}",status="200"} 1.0' in text
        assert 'feedrank_api_requests_total{route="/feeds/{user}",status="400"} 1.0' in text
        assert 'feedrank_api_pages_total{reason="",source="feed",surface="for_you"} 1.0' in text

    web(use)
