"""/livez, /readyz and /metrics over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from streams.errors import ExitCode, OperatorError
from streams.health import Health
from streams.health_server import HealthServer
from streams.metrics import Metrics

Get = Callable[[str], Awaitable[tuple[int, str]]]


def serve(health: Health, use: Callable[[Get], Awaitable[None]], metrics: Metrics | None = None) -> None:
    async def main() -> None:
        server = HealthServer(health, metrics or Metrics(), "127.0.0.1", 0)
        await server.start()
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:

                async def get(path: str) -> tuple[int, str]:
                    async with session.get(path) as response:
                        return response.status, await response.text()

                await use(get)
        finally:
            await server.stop()

    asyncio.run(main())


def test_a_worker_is_alive_before_it_is_ready_and_says_why_not() -> None:
    health = Health()
    health.not_ready("recovery", "partition 3: 1200 rows left")

    async def use(get: Get) -> None:
        assert await get("/livez") == (200, "ok\n")
        status, text = await get("/readyz")
        assert status == 503
        assert text == "recovery: partition 3: 1200 rows left\nstart: the worker is starting\n"
        health.ready("recovery")
        health.ready("start")
        assert await get("/readyz") == (200, "ok\n")
        health.not_ready("redis", "connection refused")
        assert await get("/readyz") == (503, "redis: connection refused\n")

    serve(health, use)


def test_a_dead_worker_fails_both() -> None:
    health = Health()
    health.ready("start")
    health.died("fenced on partition 2")

    async def use(get: Get) -> None:
        assert await get("/livez") == (503, "dead: fenced on partition 2\n")
        assert (await get("/readyz"))[0] == 503

    serve(health, use)


def test_metrics_are_served_in_prometheus_text() -> None:
    metrics = Metrics()
    metrics.add(metrics.dead_letters, 2, "truncated")

    async def use(get: Get) -> None:
        status, text = await get("/metrics")
        assert status == 200
        assert 'feedrank_dead_letters_total{reason="truncated"} 2.0' in text
        assert "process_cpu_seconds_total" in text

    serve(Health(), use, metrics)


def test_a_taken_port_is_told_with_the_setting_to_change() -> None:
    async def main() -> None:
        first = HealthServer(Health(), Metrics(), "127.0.0.1", 0)
        await first.start()
        second = HealthServer(Health(), Metrics(), "127.0.0.1", first.port)
        try:
            with pytest.raises(
                OperatorError, match=f"port {first.port} on 127.0.0.1 is taken; set WORKER_PORT"
            ) as e:
                await second.start()
            assert e.value.exit_code == ExitCode.PORT_TAKEN
            await second.stop()
        finally:
            await first.stop()

    asyncio.run(main())


def test_an_address_of_another_machine_is_told() -> None:
    async def main() -> None:
        with pytest.raises(OperatorError, match="correct WORKER_HOST"):
            await HealthServer(Health(), Metrics(), "203.0.113.7", 0).start()

    asyncio.run(main())
