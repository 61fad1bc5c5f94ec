"""`feedrank act USER VERB ITEM`: act as a user, and see the feed before and after."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Protocol
from urllib.parse import quote

import aiohttp
import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from feedrank.serve_command import activity_encoder, declared_verbs, feed_reader
from serving.activities import parse_posted
from serving.errors import FeedError, WrongRequestError
from serving.reader import AsyncFeedReader
from serving.sink import ActivitiesUnavailableError, KafkaSink
from serving.verbs import Verbs
from streams.errors import ExitCode, OperatorError
from streams.settings import Settings
from wire.names import SURFACES

SHOWN_MAX = 50
POLL_S = 0.05
REQUEST_S = 10.0
REFUSALS = {
    "feeds_unavailable": ExitCode.REDIS_UNREACHABLE,
    "activities_unavailable": ExitCode.BROKER_UNREACHABLE,
}

Page = dict[str, Any]
Activity = dict[str, Any]


class Way(Protocol):
    """How `act` reaches feeds and activities."""

    async def page(self, user: str, surface: str) -> Page: ...

    async def send(self, activity: Activity) -> None: ...


@dataclass(slots=True)
class ThroughApi:
    """GET /feeds and POST /activities."""

    session: aiohttp.ClientSession
    url: str

    async def page(self, user: str, surface: str) -> Page:
        query = {"peek": "1", "limit": str(SHOWN_MAX), "surface": surface}
        return await self._call("GET", f"/feeds/{quote(user, safe='')}", params=query)

    async def send(self, activity: Activity) -> None:
        await self._call("POST", "/activities", json=activity)

    async def _call(self, method: str, path: str, **options: Any) -> Page:
        try:
            async with self.session.request(method, self.url + path, **options) as answer:
                body: Page = await answer.json()
        except TimeoutError as error:
            raise OperatorError(
                f"the API at {self.url} did not answer within {REQUEST_S:.0f} s; look at its log, "
                "or go around it with --kafka",
                ExitCode.STALLED,
            ) from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise OperatorError(
                f"{self.url} is not the URL of an API; --api is for example http://127.0.0.1:8080"
            ) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise OperatorError(
                f"the API at {self.url} does not answer ({_reason(error)}); start `feedrank serve`, "
                "name another with --api, or go around it with --kafka",
                ExitCode.API_UNREACHABLE,
            ) from error
        if answer.status >= 400:
            code = REFUSALS.get(body.get("error", ""), ExitCode.BAD_INPUT)
            raise OperatorError(f"{self.url}: {body.get('message', answer.reason)}", code)
        return body


@dataclass(slots=True)
class ThroughKafka:
    """Feeds from Redis, activities to Kafka."""

    reader: AsyncFeedReader
    sink: KafkaSink
    verbs: Verbs

    async def page(self, user: str, surface: str) -> Page:
        try:
            page = await self.reader.page(user, surface=surface, limit=SHOWN_MAX, record=False)
        except WrongRequestError as error:
            raise OperatorError(error.message, ExitCode.BAD_INPUT) from error
        except FeedError as error:
            raise OperatorError(error.message, ExitCode.REDIS_UNREACHABLE) from error
        found: Page = orjson.loads(orjson.dumps(page))
        return found

    async def send(self, activity: Activity) -> None:
        try:
            await self.sink.send(parse_posted(orjson.dumps(activity), _now_ms(), self.verbs))
        except WrongRequestError as error:
            raise OperatorError(error.message, ExitCode.BAD_INPUT) from error
        except ActivitiesUnavailableError as error:
            raise OperatorError(str(error), ExitCode.BROKER_UNREACHABLE) from error


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return "nothing listens there" if isinstance(error.os_error, ConnectionRefusedError) else str(error)
    if isinstance(error, aiohttp.ContentTypeError | ValueError):
        return "what listens there is no API of feedrank"
    return type(error).__name__


def is_newer(after: Page, before: Page) -> bool:
    """Whether `after` is a feed of the user's own that was not there; fallbacks change by themselves."""
    return bool(after["source"] == "feed" and after["version"] != before["version"])


async def act_and_wait(way: Way, activity: Activity, surface: str, wait_s: float) -> tuple[Page, Page, float]:
    """The feed before, the first newer one (or the same, when none came in time), and the seconds it took."""
    user = activity["actor"]
    before = await way.page(user, surface)
    started = time.monotonic()
    await way.send(activity)
    after = before
    while not is_newer(after, before) and time.monotonic() - started < wait_s:
        await asyncio.sleep(POLL_S)
        after = await way.page(user, surface)
    return before, after, time.monotonic() - started


def act(
    user: Annotated[str, typer.Argument(help="Who acts.")],
    verb: Annotated[str, typer.Argument(help="A verb of the policy: like, hide, follow, ...")],
    item: Annotated[str, typer.Argument(help="The item; for graph verbs an author, topic or keyword.")],
    surface: Annotated[str, typer.Option(help=f"Which feed to show: {', '.join(SURFACES)}.")] = SURFACES[0],
    target: Annotated[
        str | None, typer.Option(help="What a graph verb is about: author, topic, keyword.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=SHOWN_MAX, help="Entries to show.")] = 15,
    wait_s: Annotated[float, typer.Option(min=0, help="How long to wait for the new feed; 0: not.")] = 10.0,
    api: Annotated[str | None, typer.Option(help="URL of the API; default: API_HOST and API_PORT.")] = None,
    kafka: Annotated[bool, typer.Option("--kafka", help="Go around the API: Kafka and Redis.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print both feeds as one JSON object.")] = False,
) -> None:
    """Act as a user and see the feed before and after, with the reason for each item.

    Exit code 10 when the activity was taken but no newer feed came in time.
    """
    settings = Settings.load()
    activity = {
        "activity_id": uuid.uuid4().hex,
        "actor": user,
        "verb": verb,
        "object": item,
        "target": target,
    }
    run = (
        _through_kafka(settings, activity, surface, wait_s)
        if kafka
        else _through_api(api or f"http://{settings.api.host}:{settings.api.port}", activity, surface, wait_s)
    )
    before, after, took_s = asyncio.run(run)
    if as_json:
        print(orjson.dumps({"before": before, "after": after, "seconds": took_s}).decode())
    else:
        _print(before, after, activity, top)
    if is_newer(after, before):
        if not as_json:
            print(f"a newer feed after {took_s * 1_000:.0f} ms")
    elif wait_s:
        raise OperatorError(
            f"{verb} was taken, but {user} has no newer feed after {took_s:.1f} s{_label(after)}; look "
            "whether a worker runs and is ready (its /readyz)",
            ExitCode.STALLED,
        )


async def _through_api(url: str, activity: Activity, surface: str, wait_s: float) -> tuple[Page, Page, float]:
    deadline = aiohttp.ClientTimeout(total=REQUEST_S)
    async with aiohttp.ClientSession(timeout=deadline) as session:
        return await act_and_wait(ThroughApi(session, url.rstrip("/")), activity, surface, wait_s)


async def _through_kafka(
    settings: Settings, activity: Activity, surface: str, wait_s: float
) -> tuple[Page, Page, float]:
    reader = feed_reader(settings)
    sink = KafkaSink(settings.kafka.confluent(), activity_encoder(settings), logs=False)
    try:
        way = ThroughKafka(reader, sink, declared_verbs(settings))
        return await act_and_wait(way, activity, surface, wait_s)
    finally:
        sink.close()
        await reader.close()


def _print(before: Page, after: Page, activity: Activity, top: int) -> None:
    console = Console()
    wide = console if console.is_terminal else Console(width=160)
    was = {entry["id"]: i for i, entry in enumerate(before["entries"])}
    table = Table(box=None, pad_edge=False)
    for column in ("before", "now", "", "item", "why", "source", "score"):
        right = column in ("before", "now", "score")
        table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for i, entry in enumerate(after["entries"][:top]):
        old = was.get(entry["id"])
        title = f"{entry['id']} {entry['title'] or ''}".strip()
        mine = activity["object"] in (entry["id"], entry["author"])
        table.add_row(
            "-" if old is None else str(old + 1),
            str(i + 1),
            _moved(old, i),
            escape(title),
            escape("; ".join(entry["why"])),
            entry["source"],
            f"{entry['score']:.3f}",
            style="bold" if mine else None,
        )
    wide.print(f"{activity['actor']} {activity['verb']} {activity['object']}", highlight=False, markup=False)
    wide.print(table)
    now = {entry["id"] for entry in after["entries"]}
    gone = [entry["id"] for entry in before["entries"][:top] if entry["id"] not in now]
    if gone:
        wide.print(f"no longer there: {', '.join(gone)}", highlight=False, markup=False)


def _moved(old: int | None, now: int) -> str:
    if old is None:
        return "new"
    return "=" if old == now else f"{'↑' if old > now else '↓'} {abs(old - now)}"


def _label(page: Page) -> str:
    return "" if page["source"] == "feed" else f" (fallback: {page['source']}, {page['reason']})"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
