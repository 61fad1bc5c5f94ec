"""Whether topics are why Kafka does not do what a worker needs (all steps).

A client waits for a topic that was deleted as it waits for one whose leader is away. So before a worker ends
with a code that says "start me again", the brokers are asked whether its topics are as they must be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiokafka.errors import KafkaError

from streams.concerns import KafkaSettings
from streams.errors import ExitCode, OperatorError
from streams.topics_admin import TopicsAdmin
from wire.names import Namespace

AGAIN_S = 1.0
UNSURE = frozenset({ExitCode.BROKER_UNREACHABLE, ExitCode.FENCED})

Ask = Callable[[], Awaitable[OperatorError | None]]


async def topics_wrong(kafka: KafkaSettings, names: Namespace) -> OperatorError | None:
    """What a start would refuse of the namespace's topics; None: nothing, or no broker says.

    Takes 1 s where something is wrong, `topics_admin.ANSWER_S` where no broker answers.
    """
    return await asyncio.to_thread(_looked_twice, kafka, names)


async def blamed(error: BaseException | None, ask: Ask | None) -> BaseException | None:
    """The error that ends a worker: that of its topics, where they may be why and `ask` says so."""
    code = error.exit_code if isinstance(error, OperatorError) else None
    if ask is not None and (code in UNSURE or isinstance(error, KafkaError)):
        return await ask() or error
    return error


def _looked_twice(kafka: KafkaSettings, names: Namespace) -> OperatorError | None:
    """A broker that has just started may not know all topics yet."""
    admin = TopicsAdmin(kafka, names)
    if _looked(admin) is None:
        return None
    time.sleep(AGAIN_S)
    return _looked(admin)


def _looked(admin: TopicsAdmin) -> OperatorError | None:
    try:
        report = admin.check(led=False)
    except OperatorError:
        return None
    try:
        report.demand()
    except OperatorError as error:
        return error
    return None
