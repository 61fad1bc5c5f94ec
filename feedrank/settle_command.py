"""`feedrank settle`: every active user ranked at one stated (tick, as_of), once inputs are drained."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Annotated

import typer
from confluent_kafka import Consumer, KafkaException, TopicPartition
from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.concerns import KafkaSettings
from streams.errors import ExitCode, OperatorError
from streams.settings import Settings
from streams.topics_admin import TopicsAdmin
from streams.watermarks import watermarks
from topologies.settlement import SettleBoard, SettleRefused, SettleRequest
from topologies.ticks import tick_of
from wire.names import ACTIVITIES

METADATA_S = 10.0


def end_offsets(kafka: KafkaSettings) -> dict[int, int]:
    """The end of each partition of activities as a committed reader sees it.

    Raises OperatorError when the broker does not answer or has no such topic.
    """
    consumer = Consumer(kafka.confluent() | {"group.id": "feedrank.settle", "enable.auto.commit": False})
    try:
        topic = consumer.list_topics(ACTIVITIES, METADATA_S).topics[ACTIVITIES]
        if topic.error is not None:
            raise OperatorError(
                f"{ACTIVITIES}: {topic.error.str()}; create it with `feedrank topics create`",
                ExitCode.TOPICS_WRONG,
            )
        parts = [TopicPartition(ACTIVITIES, p) for p in topic.partitions]
        return {p.partition: watermarks(consumer, p, METADATA_S)[1] for p in parts}
    except KafkaException as error:
        raise OperatorError(
            f"{kafka.bootstrap_servers} does not answer ({error.args[0]}); check KAFKA_BOOTSTRAP_SERVERS",
            ExitCode.BROKER_UNREACHABLE,
        ) from error
    finally:
        consumer.close()


async def _settle(settings: Settings, as_of_ms: int, timeout_s: float) -> dict[int, int]:
    tick_ms = settings.ranking.tick_s * 1_000
    tick = tick_of(as_of_ms, tick_ms)
    request = SettleRequest(uuid.uuid4().hex, tick, tick * tick_ms, end_offsets(settings.kafka))
    redis = Redis.from_url(settings.redis.address)
    try:
        board = SettleBoard(redis, settings.names)
        await board.ask(request)
        print(f"asked {len(request.ends)} partitions to settle at tick {tick}, as_of {request.as_of_ms}")
        try:
            return await board.wait(request, timeout_s)
        finally:
            await board.withdraw(request)
    except RedisError as error:
        raise OperatorError(
            f"Redis: {str(error).rstrip('.')}; check REDIS_URL", ExitCode.REDIS_UNREACHABLE
        ) from error
    except SettleRefused as refused:
        raise OperatorError(str(refused), ExitCode.NOT_READY) from refused
    except TimeoutError as error:
        raise OperatorError(str(error), ExitCode.STALLED) from error
    finally:
        await redis.aclose()


def _demand_namespace(settings: Settings) -> None:
    """Raises OperatorError where nobody could answer: the embedded broker makes topics when they are used."""
    names = settings.names
    if settings.kafka.embedded:
        return
    try:
        TopicsAdmin(settings.kafka, names).partitions(names.served)
    except OperatorError as error:
        if error.exit_code is not ExitCode.TOPICS_WRONG:
            raise
        raise OperatorError(
            f"there is no namespace {names.name}: {names.served} is missing; correct FEEDRANK_NAMESPACE, or "
            "make its topics with `feedrank topics create` and start workers",
            ExitCode.TOPICS_WRONG,
        ) from error


def settle(
    as_of_ms: Annotated[
        int | None, typer.Option(help="Time to rank at, ms since 1970; default: now. Rounded up to a tick.")
    ] = None,
    timeout_s: Annotated[float, typer.Option(help="How long to wait for every partition.")] = 300.0,
) -> None:
    """Rank every active user at one stated tick and time, and wait until their feeds are in Redis."""
    settings = Settings.load()
    _demand_namespace(settings)
    feeds = asyncio.run(_settle(settings, as_of_ms or time.time_ns() // 1_000_000, timeout_s))
    for partition, count in sorted(feeds.items()):
        print(f"partition {partition}: {count} feeds")
    print(f"settled {sum(feeds.values())} feeds")
