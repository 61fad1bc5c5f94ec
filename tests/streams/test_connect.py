"""Connecting leaves no socket behind, and waits for a broker that restarts."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from streams import connect as module
from streams.connect import connect, connect_patiently


@pytest.mark.kafka
def test_who_gives_up_while_it_connects_leaves_no_socket(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> list[AIOKafkaConnection]:
        asked, send, made = asyncio.Event(), AIOKafkaConnection.send, list[AIOKafkaConnection]()

        def slow(self: AIOKafkaConnection, request: object, **how: Any) -> Any:
            answer = send(self, request, **how)
            if not isinstance(request, MetadataRequest):
                return answer
            made.append(self)
            return late(answer)

        async def late(answer: Any) -> Any:
            asked.set()
            await asyncio.sleep(0.05)
            return await answer

        monkeypatch.setattr(AIOKafkaConnection, "send", slow)
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
        connecting = asyncio.create_task(connect(consumer))
        await asked.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await consumer.stop()
        return made

    made = asyncio.run(story())
    assert made
    assert not any(connection.connected() for connection in made)


class Restarts:
    """A client whose broker takes no connection the first times."""

    def __init__(self, refused: int) -> None:
        self.refused = refused

    async def start(self) -> None:
        self.refused -= 1
        if self.refused >= 0:
            raise KafkaConnectionError("nobody listens")


def test_a_broker_that_comes_back_in_time_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    client = Restarts(3)
    asyncio.run(connect_patiently(cast(AIOKafkaConsumer, client), 30.0))
    assert client.refused == -1


def test_one_that_does_not_is_named_by_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    with pytest.raises(KafkaConnectionError, match="nobody listens"):
        asyncio.run(connect_patiently(cast(AIOKafkaConsumer, Restarts(1_000_000)), 0.05))
