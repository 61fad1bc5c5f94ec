"""What tests of replays of files share: a small stream, its lines, the oracle's digest, a data directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedrank.load.events import ItemEvent
from tests.feedrank.replaying import Lines
from tests.integration.test_oracle import as_event, told
from tests.oracle.digest import digest
from tests.oracle.made_up import Size, Stream
from tests.shadows import BUNDLED, TICK_MS


@pytest.fixture(scope="session")
def stream() -> Stream:
    return Stream(3, Size(activities=1_500, items=200, users=25, changing=False))


@pytest.fixture(scope="session")
def expected(stream: Stream) -> str:
    world = told(map(as_event, stream.events), BUNDLED)  # type: ignore[arg-type]
    return digest(world, world.settled(stream.end_ms, TICK_MS))


@pytest.fixture(scope="session")
def lines(stream: Stream) -> Lines:
    found = []
    for event in map(as_event, stream.events):  # type: ignore[arg-type]
        kind = "item" if isinstance(event, ItemEvent) else "activity"
        fields = {name: value for name, value in event.record().items() if value is not None}  # type: ignore[union-attr]
        found.append({"type": kind, **fields})
    return found


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEEDRANK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    return tmp_path / "data"
