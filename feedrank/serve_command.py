"""`feedrank serve`: the read API with its page, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Any

from aiohttp import web

from models.verbs import GraphAct, Role, Verb
from serving import verbs as served
from serving.api import Api
from serving.reader import AsyncFeedReader
from serving.sink import KafkaSink
from serving.verbs import DeclaredVerb, Verbs
from streams.codec.encode import encode_activity
from streams.errors import OperatorError
from streams.health_server import port_error
from streams.log import logger, setup
from streams.policy_file import read_policy
from streams.registry import Registry
from streams.settings import Settings
from wire.names import ACTIVITIES

SHUTDOWN_S = 2.0
ROLES: dict[Role, served.Role] = {
    Role.EXPOSURE: "exposure",
    Role.WEAK: "weak",
    Role.STRONG: "strong",
    Role.NEGATIVE: "negative",
    Role.GRAPH: "graph",
    Role.UNDO: "undo",
}
GRAPH_ACTS: dict[GraphAct, served.GraphAct] = {
    GraphAct.FOLLOW: "follow",
    GraphAct.MUTE: "mute",
    GraphAct.BLOCK: "block",
}

log = logger(__name__)


def activity_encoder(settings: Settings) -> Callable[[dict[str, Any]], bytes]:
    """How this installation writes activities: Avro (under the registry's id where there is one) or JSON.

    Raises OperatorError when the registry does not answer or refuses the schema.
    """
    kafka, form = settings.kafka, settings.worker.format
    schema_id = 0
    if form == "avro" and kafka.schema_registry_url:
        secret = kafka.schema_registry_auth
        registry = Registry(kafka.schema_registry_url, secret.get_secret_value() if secret else None)
        schema_id = registry.register(ACTIVITIES, "activity")
    return lambda activity: encode_activity(activity, form, schema_id)


def declared_verbs(settings: Settings) -> Verbs:
    """The verbs of the policy in force, for the read side. Raises OperatorError for a broken policy."""
    return Verbs.of(map(_declared, read_policy(settings.worker.policy).verbs.verbs))


def _declared(verb: Verb) -> DeclaredVerb:
    return DeclaredVerb(
        verb.name,
        ROLES[verb.role],
        GRAPH_ACTS.get(verb.graph),
        value=verb.value,
        affinity=verb.affinity,
        makes_due=verb.makes_due,
    )


def feed_reader(settings: Settings) -> AsyncFeedReader:
    """A reader of this installation's Redis. Raises OperatorError for a URL that can't be one."""
    redis = settings.redis
    try:
        return AsyncFeedReader.from_url(
            redis.address, redis.cluster, settings.worker.namespace, redis.timeout_ms / 1_000
        )
    except ValueError as error:
        raise OperatorError(f"REDIS_URL: {error}; correct it") from error


async def run_api(settings: Settings, api: Api, started: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `started` is told the URL. Raises OperatorError (port taken)."""
    runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    host, port = settings.api.host, settings.api.port
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise port_error(error, host, port, "API_HOST", "API_PORT") from error
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    started(f"http://{host}:{runner.addresses[0][1]}/")
    await stop.wait()
    await runner.cleanup()


async def _serve(settings: Settings) -> None:
    verbs = declared_verbs(settings)
    if verbs.visit is None:
        log.warning(
            "the policy has no verb for visits: reads make no feed due. Declare one of role weak with "
            "makes_due and without value and affinity"
        )
    reader = feed_reader(settings)
    sink = KafkaSink(settings.kafka.confluent(), activity_encoder(settings))
    try:
        api = Api(reader, sink, verbs)
        await run_api(settings, api, lambda url: log.info("serving feeds", url=url))
    finally:
        sink.close()
        await reader.close()


def serve() -> None:
    """Run the read API with its page: feeds out of Redis, activities into Kafka."""
    settings = Settings.load()
    setup(settings.observability)
    asyncio.run(_serve(settings))
