"""The reference HTTP API: feeds out, activities in, and a page to look at both (read side).

    GET  /feeds/{user}?surface=&limit=&cursor=&min_version=&topic=&peek=
    POST /activities
    GET  /   /livez   /readyz   /metrics

It has no notion of who is asking: put it behind whatever authenticates your users.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import orjson
from aiohttp import web

from serving.activities import Mark, mark_of, parse_posted, visit
from serving.errors import FeedsUnavailableError, WrongRequestError
from serving.metrics import ApiMetrics
from serving.pages import LIMIT_DEFAULT, LIMIT_MAX, FeedPage
from serving.reader import AsyncFeedReader, PageOptions
from serving.sink import ActivitiesUnavailableError, ActivitySink
from serving.verbs import Verbs
from serving.visits import Visits
from wire.cursor import WrongCursorError

BODY_BYTES_MAX = 1 << 20
RETRY_AFTER_S = 1
DIGITS_MAX = 9
_NUMBER = re.compile(r"-?[0-9]+")
QUERY = ("surface", "limit", "cursor", "min_version", "topic", "peek")
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; frame-ancestors 'none'; base-uri 'none'"
)

PAGE_VERBS = 'const VERBS = {"like":"like","follow":"follow","hide":"hide","undo":"undo","visit":"visit"};'

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Api:
    """What the handlers share. `verbs`: the policy's; without one for visits, reads are not told."""

    reader: AsyncFeedReader
    sink: ActivitySink
    verbs: Verbs
    metrics: ApiMetrics = field(default_factory=ApiMetrics)
    visits: Visits = field(default_factory=Visits)

    def application(self) -> web.Application:
        """The aiohttp application; run it with `web.AppRunner`."""
        app = web.Application(middlewares=[self._answer_errors], client_max_size=BODY_BYTES_MAX)
        app.router.add_get("/feeds/{user:[^/]+}", self.get_feed)
        app.router.add_post("/activities", self.post_activities)
        app.router.add_get("/", self.get_page)
        app.router.add_get("/livez", self.get_livez)
        app.router.add_get("/readyz", self.get_readyz)
        app.router.add_get("/metrics", self.get_metrics)
        return app

    async def get_feed(self, request: web.Request) -> web.Response:
        """One page; tells Kafka that the user is here, unless it is a peek."""
        user = request.match_info["user"]
        options = _options(request)
        page = await self.reader.page(user, **options)
        if options.get("record") and not options.get("cursor"):
            self._tell_visit(user)
        self._count(page)
        return _json(page)

    async def post_activities(self, request: web.Request) -> web.Response:
        """Activities to Kafka, acknowledged before we answer; what hides something hides it at once."""
        if request.content_type != "application/json":
            raise WrongRequestError("send Content-Type: application/json")
        activities = parse_posted(await request.read(), _now_ms(), self.verbs)
        await self.sink.send(activities)
        self.metrics.activities.labels("posted").inc(len(activities))
        hidden = True
        for mark in filter(None, (mark_of(activity, self.verbs) for activity in activities)):
            hidden = await self._hide(mark) and hidden
        answer = {"accepted": len(activities), "activity_ids": [a["activity_id"] for a in activities]}
        return _json(answer if hidden else answer | {"hidden_at_once": False}, 202)

    async def get_page(self, _: web.Request) -> web.Response:
        """The page: one file, no other resources, with the policy's verbs behind its buttons."""
        text = files("serving").joinpath("page.html").read_text(encoding="utf-8")
        verbs = orjson.dumps(dict(self.verbs.page)).decode().replace("<", "\\u003c")
        text = text.replace(PAGE_VERBS, f"const VERBS = {verbs};")
        headers = {"Content-Security-Policy": PAGE_POLICY, "X-Content-Type-Options": "nosniff"}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def get_livez(self, _: web.Request) -> web.Response:
        """The process answers."""
        return web.Response(text="ok\n")

    async def get_readyz(self, _: web.Request) -> web.Response:
        """Redis answers. Kafka does not matter here: feeds are served without it."""
        try:
            await self.reader.ping()
        except FeedsUnavailableError as error:
            self.metrics.redis_up.set(0)
            return web.Response(text=f"redis: {error.message}\n", status=503)
        self.metrics.redis_up.set(1)
        return web.Response(text="ok\n")

    async def get_metrics(self, _: web.Request) -> web.Response:
        """Prometheus' text format."""
        self.metrics.unsent.set(self.sink.failed)
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self.metrics.exposition(), headers=headers)

    def _tell_visit(self, user: str) -> None:
        verb = self.verbs.visit
        if verb is not None and self.visits.worth_telling(user, time.monotonic()):
            self.sink.offer(visit(user, verb, _now_ms()))
            self.metrics.activities.labels("visit").inc()

    async def _hide(self, mark: Mark) -> bool:
        """False when Redis did not take it: the worker's next feed will leave it out all the same."""
        try:
            act = self.reader.hide if mark.hide else self.reader.unhide
            await act(mark.user, mark.kind, mark.name)
        except FeedsUnavailableError as error:
            _log.warning("not hidden at once: %s", error.message, extra={"fields": {"user": mark.user}})
            return False
        return True

    def _count(self, page: FeedPage) -> None:
        source = page.source.partition(":")[0]
        self.metrics.pages.labels(page.surface, source, page.reason).inc()
        self.metrics.restarts.inc(page.restarted)
        for dropped in page.dropped:
            self.metrics.dropped.labels(dropped.why).inc()
        self.metrics.redis_up.set(1)

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every error as JSON that says what to do; every request counted."""
        started = time.perf_counter()
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "unknown"
        try:
            response: web.StreamResponse = await handler(request)
        except Exception as error:
            response = self._error(error, request)
        self.metrics.requests.labels(route, response.status).inc()
        self.metrics.latency.labels(route).observe(time.perf_counter() - started)
        return response

    def _error(self, error: Exception, request: web.Request) -> web.Response:
        if isinstance(error, WrongCursorError):
            return _problem(400, "wrong_cursor", str(error))
        if isinstance(error, WrongRequestError):
            return _problem(400, "wrong_request", error.message)
        if isinstance(error, FeedsUnavailableError):
            self.metrics.redis_up.set(0)
            return _problem(503, "feeds_unavailable", error.message)
        if isinstance(error, ActivitiesUnavailableError):
            return _problem(503, "activities_unavailable", f"{error}; repeat with the same activity_id")
        if isinstance(error, web.HTTPRequestEntityTooLarge):
            return _problem(413, "too_large", f"the body has more than {BODY_BYTES_MAX:,} bytes; send less")
        if isinstance(error, web.HTTPMethodNotAllowed):
            return _problem(405, "wrong_method", f"use {', '.join(sorted(error.allowed_methods))} here")
        if isinstance(error, web.HTTPNotFound):
            return _problem(404, "not_found", "there are /feeds/{user}, /activities and / here")
        if isinstance(error, web.HTTPException):
            return _problem(error.status, "http_error", error.reason)
        _log.error("a request failed", exc_info=error)
        return _problem(500, "internal", "a defect of feedrank: see the API's log")


def _options(request: web.Request) -> PageOptions:
    query = request.query
    unknown = set(query) - set(QUERY)
    if unknown:
        raise WrongRequestError(
            f"{', '.join(sorted(unknown))} is not a parameter; there are {', '.join(QUERY)}"
        )
    options = PageOptions(older="fallback", record=query.get("peek", "0") in ("0", "false", ""))
    limit = query.get("limit", str(LIMIT_DEFAULT))
    if not _NUMBER.fullmatch(limit):
        raise WrongRequestError(f"limit is {limit!r}; give a number, 1 to {LIMIT_MAX}")
    if len(limit) > DIGITS_MAX:
        raise WrongRequestError(f"limit is {limit}; choose 1 to {LIMIT_MAX}")
    options["limit"] = int(limit)
    if query.get("surface"):
        options["surface"] = query["surface"]
    options["cursor"] = query.get("cursor") or None
    options["min_version"] = query.get("min_version") or None
    options["topic"] = query.get("topic") or None
    return options


def _json(body: Any, status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", headers=headers
    )


def _problem(status: int, code: str, message: str) -> web.Response:
    response = _json({"error": code, "message": message}, status)
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
