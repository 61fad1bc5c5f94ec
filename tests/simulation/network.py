"""What lies between processes: requests take their time, get lost, and arrive when nobody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aiokafka.errors import KafkaConnectionError

from tests.simulation.loop import PROCESS, Process, SimLoop

LATENCY_S = 0.002
SLOW_S = 0.4
SLOW_SHARE = 0.02


class Network:
    """`down_until`: nothing reaches the brokers before; `cut_until`: nothing of this process does."""

    def __init__(self, loop: SimLoop, servers: str) -> None:
        self.loop = loop
        self.servers = loop.process(servers)
        self.down_until = 0.0
        self.cut_until: dict[Process, float] = {}

    def delay_s(self) -> float:
        """One way: mostly short, now and then long enough to be overtaken by everything."""
        draw = self.loop.random
        return draw.expovariate(1 / (SLOW_S if draw.random() < SLOW_SHARE else LATENCY_S))

    def arrives_s(self, process: Process) -> float:
        """When something that is sent now is there. Clients send again what a broken connection took."""
        until = max(self.down_until, self.cut_until.get(process, 0.0))
        return max(self.loop.time(), until) + self.delay_s()

    async def ask(self, act: Callable[..., Any], *arguments: Any) -> Any:
        """What `act` returns or raises at the brokers; a coroutine takes its time there."""
        if self.loop.ending:
            raise KafkaConnectionError("the run is over")
        me, answer = PROCESS.get(), self.loop.create_future()
        self.loop.call_at(
            self.arrives_s(me), self._arrived, me, answer, act, arguments, context=self.servers.context
        )
        return await answer

    def _arrived(
        self, me: Process, answer: asyncio.Future[Any], act: Callable[..., Any], arguments: Any
    ) -> None:
        if self.loop.ending:
            return
        try:
            made = act(*arguments)
        except Exception as error:
            self._answered(me, answer, error, None)
            return
        if asyncio.iscoroutine(made):
            self.loop.spawn(self.servers, self._work(me, answer, made))
        else:
            self._answered(me, answer, None, made)

    async def _work(self, me: Process, answer: asyncio.Future[Any], work: Coroutine[Any, Any, Any]) -> None:
        try:
            made = await work
        except Exception as error:
            self._answered(me, answer, error, None)
        else:
            self._answered(me, answer, None, made)

    def _answered(self, me: Process, answer: asyncio.Future[Any], error: Exception | None, made: Any) -> None:
        self.loop.call_at(self.arrives_s(me), _settle, answer, error, made, context=self.servers.context)


def _settle(answer: asyncio.Future[Any], error: Exception | None, made: Any) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(made)
