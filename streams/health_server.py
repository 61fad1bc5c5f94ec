"""/livez, /readyz and /metrics of a worker (all steps)."""

from __future__ import annotations

import errno

from aiohttp import web

from streams.errors import ExitCode, OperatorError
from streams.health import Health
from streams.metrics import Metrics

SHUTDOWN_S = 1.0


class HealthServer:
    """The three endpoints. `port` 0 takes any free one; `port` holds the real one after `start`."""

    def __init__(self, health: Health, metrics: Metrics, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._health, self._metrics = health, metrics
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen, unless it does. Raises OperatorError (port taken) when it cannot."""
        if self._runner is not None:
            return
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._exposition)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError as error:
            await self.stop()
            raise port_error(error, self.host, self.port, "WORKER_HOST", "WORKER_PORT") from error
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening; harmless when not started."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def _livez(self, _: web.Request) -> web.Response:
        dead = self._health.dead
        return web.Response(text=f"dead: {dead}\n" if dead else "ok\n", status=503 if dead else 200)

    async def _readyz(self, _: web.Request) -> web.Response:
        health = self._health
        if health.is_ready:
            return web.Response(text="ok\n")
        reasons = dict(health.reasons) | ({"dead": health.dead} if health.dead else {})
        return web.Response(text="".join(f"{p}: {why}\n" for p, why in sorted(reasons.items())), status=503)

    async def _exposition(self, _: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics.exposition(), headers=headers)


def port_error(error: OSError, host: str, port: int, host_name: str, port_name: str) -> OperatorError:
    """What to tell an operator when listening on host:port failed (the API uses it too)."""
    if error.errno == errno.EADDRINUSE:
        why = f"port {port} on {host} is taken; set {port_name} to another (0: any free one)"
    elif error.errno == errno.EACCES:
        why = f"this user may not listen on port {port}; set {port_name} to one above 1023"
    else:
        why = (
            f"cannot listen on {host}:{port} ({error.strerror or error}); correct {host_name} or {port_name}"
        )
    return OperatorError(why, ExitCode.PORT_TAKEN)
