"""What the demo starts, it ends: servers, processes that die or will not; and what it reads of Kafka."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer

from demo.embedded import free_port, start_kafka, start_redis
from demo.environment import environment_with, settings_file, settings_of
from demo.ledger import Account
from demo.outbox import KafkaOutbox, Recording
from demo.processes import Child, Children, start
from demo.site import Site
from demo.topic_log import ActivityTail, TopicLog
from demo.world import World
from feedrank.load import jsonl
from serving.reader import FeedReader
from streams.durable import POSITION_KEY
from streams.errors import ExitCode, OperatorError
from streams.settings import Settings
from streams.topics_admin import TopicsAdmin
from tests.waiting import GUARD_S, slowness, started, until

NOW_MS = 1_800_000_000_000


Sleeper = Callable[..., Child]


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Sleeper]:
    """Processes that do nothing; what still runs when the test ends is ended."""
    with contextlib.ExitStack() as stack:

        def begin(code: str = "import time; time.sleep(600)") -> Child:
            child = start("sleeper", [sys.executable, "-c", code], tmp_path)
            stack.callback(child.kill)
            return child

        yield begin


def gone(pid: int) -> bool:
    """Not there, or dead and not yet waited for by whoever inherits it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def kafka(directory: Path) -> Iterator[Child]:
    child = start_kafka(directory)
    yield child
    child.stop()
    assert gone(child.process.pid)


@pytest.fixture(scope="module")
def settings(kafka: Child, directory: Path) -> Settings:
    found = Settings.load(settings_of(kafka.address, "redis://127.0.0.1:1/0", directory / "data"))
    TopicsAdmin(found.kafka, found.names).create()
    return found


def test_an_embedded_redis_answers_and_leaves_nothing(tmp_path: Path) -> None:
    server = start_redis(tmp_path)
    FeedReader.from_url(server.address).ping()
    server.stop()
    server.stop()
    assert gone(server.process.pid)
    assert not list(tmp_path.glob("*.rdb"))


def test_an_embedded_kafka_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """A parent that is killed cannot clean up; its broker notices."""
    code = (
        "import sys, pathlib, time; from demo.embedded import start_kafka; "
        f"print(start_kafka(pathlib.Path({str(tmp_path)!r})).process.pid, flush=True); time.sleep(600)"
    )
    with started([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())  # type: ignore[union-attr]
        assert not gone(pid)
    until(lambda: gone(pid), "the broker ends")


def test_a_process_that_ends_by_itself_is_named_with_its_last_words(sleeper: Sleeper) -> None:
    children = Children()
    child = children.add(sleeper("import sys; print('port 80 is taken'); sys.exit(7)"))
    children.add(sleeper())
    child.process.wait(GUARD_S)
    with pytest.raises(
        OperatorError, match=r"(?s)sleeper has ended by itself with code 7.*port 80 is taken"
    ) as raised:
        children.check()
    assert raised.value.exit_code == ExitCode.PORT_TAKEN
    children.stop_all()
    assert not children.running


def test_one_that_was_told_to_end_is_no_failure(sleeper: Sleeper) -> None:
    children = Children()
    child = children.add(sleeper())
    child.ask_to_stop()
    child.process.wait(GUARD_S)
    children.check()


def test_one_that_will_not_end_is_killed(sleeper: Sleeper) -> None:
    stubborn = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    child = sleeper(stubborn)
    until(lambda: "up" in child.tail(), "it is up")
    assert child.stop(0.2) == -signal.SIGKILL


def test_all_are_stopped_in_one_deadline(sleeper: Sleeper) -> None:
    children = Children([sleeper() for _ in range(4)])
    pids = [child.process.pid for child in children.running]
    started_s = time.monotonic()
    children.stop_all(5.0)
    assert time.monotonic() - started_s < 5.0 * slowness()
    assert all(map(gone, pids))


def test_a_site_that_fails_while_it_starts_ends_what_it_had_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_redis(directory: Path) -> Child:
        raise OperatorError("there is no redis-server")

    monkeypatch.setattr("demo.site.start_redis", no_redis)
    site = Site(tmp_path)
    with pytest.raises(OperatorError, match="no redis-server"):
        site.start_servers()
    (kafka,) = site.children.running
    site.close(keep_logs=False)
    assert gone(kafka.process.pid)
    assert list(tmp_path.iterdir()) == []


def test_children_get_none_of_the_visitors_settings_but_the_few_that_are_theirs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "production:9092")
    monkeypatch.setenv("FEEDRANK_NAMESPACE", "live")
    monkeypatch.setenv("FEEDRANK_NO_SUCH", "x")
    monkeypatch.setenv("FEEDRANK_LOG_LEVEL", "debug")
    monkeypatch.setenv("PATH_OF_ANOTHER", "kept")
    found = environment_with(settings_of("127.0.0.1:1", "redis://127.0.0.1:2/0", tmp_path))
    assert found["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:1"
    assert found["FEEDRANK_NAMESPACE"] == "demo"
    assert "FEEDRANK_NO_SUCH" not in found
    assert (found["FEEDRANK_LOG_LEVEL"], found["PATH_OF_ANOTHER"]) == ("debug", "kept")


def test_other_commands_are_told_what_they_need_and_nothing_of_the_workers_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEEDRANK_POLICY", "mine.toml")
    told = settings_file(settings_of("127.0.0.1:1", "redis://127.0.0.1:2/0", tmp_path))
    assert "KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1\n" in told
    assert f"FEEDRANK_POLICY={tmp_path}/mine.toml\n" in told
    assert "FEEDRANK_DATA_DIR" not in told
    assert "GROUP_INSTANCE_ID" not in told


def test_a_wished_port_is_given_when_it_is_free() -> None:
    port = free_port()
    assert free_port(port) == port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert free_port(port) != port


def test_the_newest_position_of_each_partition_is_found_however_far_back(settings: Settings) -> None:
    log = TopicLog(settings.kafka, settings.names)
    topic = settings.names.users_changelog
    producer = Producer({**settings.kafka.confluent(), "log_level": 0})

    def position(partition: int, n: int) -> None:
        record = {"position": n, "epoch": 1, "applied": n - 3, "duplicates": 1, "withdrawn": 1, "dead": 1}
        producer.produce(topic, orjson.dumps(record), POSITION_KEY, partition=partition)

    assert log.accounts() == {}
    position(0, 10)
    position(1, 20)
    position(1, 30)
    for k in range(2_000):
        producer.produce(topic, b"a row", b"u%d" % k, partition=0)
    producer.flush(GUARD_S)
    assert log.accounts() == {0: Account(10, 7, 1, 1, 1), 1: Account(30, 27, 1, 1, 1)}
    assert log.ends(topic) == {0: 2_001, 1: 2, 2: 0, 3: 0}
    log.close()


def test_what_is_sent_is_counted_recorded_and_told_from_what_others_send(
    settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "activities.jsonl"
    recording = Recording(path)
    outbox = KafkaOutbox(settings.kafka, recording)
    world = World(1, users=10)
    like = {"actor": "ann", "verb": "like", "object": "item-0", "event_time": NOW_MS, "slate_id": None}
    outbox.item(world.publish(NOW_MS))
    for k in range(5):
        outbox.activity({**like, "activity_id": f"mark-{k}"})
        outbox.broken("ann", NOW_MS)
    outbox.past_is_over()
    outbox.activity({**like, "activity_id": "from-the-page"})
    outbox.flush()
    recording.close()
    tail = ActivityTail(settings.kafka, "mark-")
    foreign = []
    while tail.read < outbox.acked:
        foreign += tail.poll()
    tail.close()
    assert (outbox.acked, outbox.items) == (11, 1)
    assert [act.fields["activity_id"] for act in foreign] == ["from-the-page"]
    events = list(jsonl.events(path))
    assert [event.key for event in events] == ["item-0", *["ann"] * 11]


def test_two_writers_of_one_recording_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "both.jsonl"
    one, two = Recording(path), Recording(path)
    for k in range(200):
        for writer in (one, two):
            writer.add("activity", {"object": "x" * k, "target": None})
        (one if k % 2 else two).write()
    one.close()
    two.close()
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert len(lines) == 400
    assert all(line.keys() == {"type", "object"} for line in lines)
