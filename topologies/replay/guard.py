"""What keeps a replay away from a live namespace (before step 1): looked at before anything is made."""

from __future__ import annotations

import redis
from confluent_kafka import Consumer, KafkaException, TopicPartition
from redis.exceptions import RedisError

from streams.concerns import KafkaSettings
from streams.errors import ExitCode, OperatorError
from streams.settings import Settings
from streams.watermarks import watermarks
from wire.names import ROUTE_KEY, Namespace
from wire.route import Route, WrongRouteError

ANSWER_S = 10.0


def demand_shadow(settings: Settings, names: Namespace, topics: bool, feeds: bool) -> None:
    """Refuse a namespace that a job or readers use. `topics`, `feeds`: look into Kafka, into Redis.

    Raises OperatorError.
    """
    demand_other(settings, names)
    if topics:
        _demand_no_state(settings.kafka, names)
    if feeds:
        _demand_not_read(settings, names)


def demand_other(settings: Settings, names: Namespace) -> None:
    """Refuse this installation's own namespace. Raises OperatorError."""
    if names.name == settings.worker.namespace:
        raise _refusal(names, "it is this installation's own (FEEDRANK_NAMESPACE)")


def _refusal(names: Namespace, why: str) -> OperatorError:
    return OperatorError(
        f"only a new namespace is built into, never one that is in use, and {names.name} is: {why}; choose "
        "another"
    )


def _demand_no_state(kafka: KafkaSettings, names: Namespace) -> None:
    consumer = Consumer(
        kafka.confluent() | {"log_level": 0, "group.id": "feedrank-replay", "enable.auto.commit": False}
    )
    try:
        topics = consumer.list_topics(timeout=ANSWER_S).topics
        for topic in (names.users_changelog, names.item_rows_changelog):
            if topic not in topics or kafka.embedded:
                continue
            for partition in topics[topic].partitions:
                at = TopicPartition(topic, partition)
                if watermarks(consumer, at, ANSWER_S)[1] > 0:
                    raise _refusal(names, f"{topic} holds rows of a worker")
    except KafkaException as error:
        raise OperatorError(
            f"Kafka at {kafka.bootstrap_servers} does not answer ({error.args[0].str()}); check "
            "KAFKA_BOOTSTRAP_SERVERS",
            ExitCode.BROKER_UNREACHABLE,
        ) from error
    finally:
        consumer.close()


def _demand_not_read(settings: Settings, names: Namespace) -> None:
    kind = redis.RedisCluster if settings.redis.cluster else redis.Redis
    try:
        client = kind.from_url(settings.redis.address, socket_timeout=settings.redis.timeout_ms / 1_000)
        try:
            stored, present = client.get(ROUTE_KEY), client.exists(names.present(0))
        finally:
            client.close()
    except (RedisError, OSError) as error:
        raise OperatorError(
            f"Redis: {str(error).rstrip('.')}; check REDIS_URL, or keep feeds on disk with --feeds files",
            ExitCode.REDIS_UNREACHABLE,
        ) from error
    if present:
        raise _refusal(names, "Redis holds feeds of it")
    if isinstance(stored, bytes):
        try:
            route = Route.decode(stored)
        except WrongRouteError as error:
            raise OperatorError(
                f"{error}; until then nobody knows which namespace is live", ExitCode.USAGE
            ) from error
        if names.name in (route.default, *(split.namespace for split in route.splits)):
            raise _refusal(names, "readers are routed to it")
