"""Fixtures for all tests: a real Kafka, a real Redis, the real data, unique names.

    def test_something(kafka: str, redis_url: str, namespace: str, make_topic): ...

`kafka` and `redis_url` are shared by the session: use the per-test `namespace` and `make_topic`. A test that
needs the public topic names for itself takes `public_kafka`. KAFKA_BOOTSTRAP_SERVERS and REDIS_URL name other
servers for these three. A test that kills or restarts a server, or asserts its defaults, has one of its own
in any case: `private_kafka`, `private_redis`.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tests.lent_topics import TopicsTaken, lent_topics
from tests.services import (
    ROOT,
    Kafka,
    Redis,
    ServiceMissing,
    create_topic,
    require_services,
    start_kafka,
    start_redis,
)

MakeTopic = Callable[..., str]

# Examples are judged by what they show, not by how long a busy machine takes for one.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def absent(reason: object) -> NoReturn:
    """Skip visibly, or fail where the services must be there. All tests skip through this one."""
    if require_services():
        pytest.fail(f"FEEDRANK_REQUIRE_SERVICES=1, but {reason}", pytrace=False)
    pytest.skip(str(reason))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """The last thing that a run says, below all else: what did not run, and how to change that."""
    yield
    reports = terminalreporter.stats.get("skipped", [])
    for line in not_run(report.longrepr[2] for report in reports):
        terminalreporter.write_line(line, red=True, bold=True)


def not_run(reasons: Iterable[str]) -> list[str]:
    """A line per reason, most tests first."""
    counts = Counter(reason.removeprefix("Skipped: ") for reason in reasons)
    return [
        f"NOT RUN: {count} test{'s' if count > 1 else ''}, {reason}" for reason, count in counts.most_common()
    ]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real Kafka for the session; KAFKA_BOOTSTRAP_SERVERS names another one."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        yield given
        return
    try:
        broker = start_kafka(tmp_path_factory.mktemp("kafka"))
    except ServiceMissing as missing:
        absent(missing)
    yield broker.bootstrap
    broker.kill()


@pytest.fixture
def private_kafka(tmp_path: Path) -> Iterator[Kafka]:
    """A broker of the test's own (about 5 s): it may be killed, restarted, or asked for its defaults."""
    try:
        broker = start_kafka(tmp_path / "kafka")
    except ServiceMissing as missing:
        absent(f"this test restarts its broker or asserts its defaults, so it has one of its own; {missing}")
    yield broker
    broker.kill()


@contextmanager
def with_public_topics(directory: Path) -> Iterator[str]:
    """Bootstrap servers of a Kafka without feedrank topics: a fresh one, or KAFKA_BOOTSTRAP_SERVERS, where
    those that come are deleted afterwards."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        try:
            with lent_topics(given):
                yield given
        except TopicsTaken as taken:
            pytest.fail(str(taken), pytrace=False)
        return
    try:
        broker = start_kafka(directory)
    except ServiceMissing as missing:
        absent(missing)
    try:
        yield broker.bootstrap
    finally:
        broker.kill()


@pytest.fixture
def public_kafka(tmp_path: Path) -> Iterator[str]:
    """A Kafka whose public topics are the test's own; KAFKA_BOOTSTRAP_SERVERS names another one."""
    with with_public_topics(tmp_path / "kafka") as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real Redis for the session; REDIS_URL names another one."""
    given = os.environ.get("REDIS_URL")
    if given:
        yield given
        return
    try:
        server = start_redis(tmp_path_factory.mktemp("redis"))
    except ServiceMissing as missing:
        absent(missing)
    yield server.url
    server.kill()


@pytest.fixture
def private_redis(tmp_path: Path) -> Iterator[Redis]:
    """A Redis of the test's own, to kill and restart."""
    try:
        server = start_redis(tmp_path / "redis")
    except ServiceMissing as missing:
        absent(missing)
    yield server
    server.kill()


@pytest.fixture
def namespace() -> str:
    """A feedrank namespace that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def make_topic(kafka: str, namespace: str) -> MakeTopic:
    """make_topic("in", partitions=4, cleanup_policy="compact") -> the unique name of a new topic."""

    def make(name: str = "topic", partitions: int = 1, **config: str) -> str:
        return create_topic(kafka, f"{namespace}.{name}", partitions, **config)

    return make


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real data; FEEDRANK_DATA names another one. Skips where it is absent, also where
    services must be there: the data is not part of the repository."""
    folder = Path(os.environ.get("FEEDRANK_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(
            f"no real data: {folder} is not there, and it is not part of the repository; "
            "set FEEDRANK_DATA to a folder with uboot/, ranklens/ and open_bandit/"
        )
    return folder
