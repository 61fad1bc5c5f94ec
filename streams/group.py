"""Whether workers of a namespace are alive, as their group says; asked before rows are touched."""

from __future__ import annotations

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.concerns import KafkaSettings
from streams.errors import ExitCode, OperatorError
from wire.names import Namespace

ANSWER_S = 10.0


def members(kafka: KafkaSettings, names: Namespace) -> list[str]:
    """Client ids of the group's members; empty: nobody is at work. Raises OperatorError without an answer.

    A worker that was killed counts until its session is over; one with GROUP_INSTANCE_ID, also after it was
    stopped.
    """
    admin = AdminClient({**kafka.confluent(), "log_level": 0})
    try:
        asked = admin.describe_consumer_groups([names.group], request_timeout=ANSWER_S)
        found = asked[names.group].result(2 * ANSWER_S)
    except (KafkaException, TimeoutError) as error:
        why = error.args[0].str() if isinstance(error, KafkaException) else "no answer"
        raise OperatorError(
            f"Kafka at {kafka.bootstrap_servers} does not say who is in group {names.group} "
            f"({why}); check KAFKA_BOOTSTRAP_SERVERS and the right to describe groups",
            ExitCode.BROKER_UNREACHABLE,
        ) from error
    return sorted(member.client_id for member in found.members)


def demand_stopped(kafka: KafkaSettings, names: Namespace, what: str) -> None:
    """Raises OperatorError (NOT_READY) while workers are alive."""
    alive = members(kafka, names)
    if alive:
        raise OperatorError(
            f"{what} while workers of {names.name} are alive ({len(alive)} in group {names.group}): stop "
            "them first; a worker that was killed counts until its session is over (SESSION_TIMEOUT_MS)",
            ExitCode.NOT_READY,
        )
