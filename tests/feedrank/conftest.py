"""What tests of replays of files share: a small stream, its lines, the oracle's digest, a data directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.feedrank.replaying import Lines, digest_told, lines_of
from tests.oracle.made_up import Size, Stream


@pytest.fixture(scope="session")
def stream() -> Stream:
    return Stream(3, Size(activities=1_500, items=200, users=25, changing=False))


@pytest.fixture(scope="session")
def expected(stream: Stream) -> str:
    return digest_told(stream)


@pytest.fixture(scope="session")
def lines(stream: Stream) -> Lines:
    return lines_of(stream)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEEDRANK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    return tmp_path / "data"
