"""Where a run of benchmarks takes place, and servers that end with a `with` block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.services import Server

PEER_NAMES = ("kafka-streams", "quix", "faust")
S = TypeVar("S", bound=Server)


@dataclass(frozen=True, slots=True)
class Place:
    """A directory for state and logs, and how much to do (the full figures have 3,000,000 activities)."""

    directory: Path
    activities: int = 3_000_000
    users: int = 1_000_000
    seconds: int = 30
    peers: tuple[str, ...] = PEER_NAMES


@contextmanager
def running(server: S) -> Iterator[S]:
    """A started server, killed at the end."""
    try:
        yield server
    finally:
        server.kill()
