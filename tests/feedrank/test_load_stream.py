"""`feedrank load` sends a file as it is read: no more is held than is sent at once; refusals come before."""

from __future__ import annotations

import base64
import gzip
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from feedrank import cli, load_command
from feedrank.load import events, jsonl, send
from feedrank.load.events import ActivityEvent, opened
from streams.errors import ExitCode
from tests.waiting import GUARD_S
from wire.names import ACTIVITIES

DAY_MS = 86_400_000
CHUNK = 50
EVENTS = 2_000


class Topics:
    """The brokers' topics: there, and kept for `retention_ms`."""

    def __init__(self, retention_ms: int | None) -> None:
        self._retention_ms = retention_ms

    def partitions(self, _: str) -> int:
        return 4

    def retention_ms(self, _: str) -> int | None:
        return self._retention_ms


class Message:
    def topic(self) -> str:
        return ACTIVITIES


class Taking:
    """A producer whose broker takes everything at once."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []

    def produce(self, topic: str, value: bytes, key: bytes, timestamp: int, on_delivery: Any) -> None:
        self.keys.append(key)
        on_delivery(None, Message())

    def poll(self, _: float) -> int:
        return 0

    def flush(self, _: float) -> int:
        return 0


Broker = Callable[[int | None], Taking]


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """broker(retention_ms) stands in for Kafka."""

    def start(retention_ms: int | None) -> Taking:
        taking = Taking()
        monkeypatch.setattr(load_command, "TopicsAdmin", lambda *_: Topics(retention_ms))
        monkeypatch.setattr(send, "Producer", lambda _: taking)
        monkeypatch.setattr(send, "CHUNK_EVENTS", CHUNK)
        return taking

    return start


def like(time_ms: int, actor: str = "bob") -> str:
    line = {"type": "activity", "actor": actor, "verb": "like", "object": "i1", "event_time": time_ms}
    return json.dumps(line) + "\n"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Held(ActivityEvent):
    """Counts how many of its kind there are."""

    alive = 0

    def __del__(self) -> None:
        Held.alive -= 1


@pytest.mark.parametrize("options", [[], ["--strict"]])
@pytest.mark.parametrize("retention_ms", [None, 7 * DAY_MS])
def test_no_more_is_held_than_is_sent_at_once(
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    retention_ms: int | None,
    options: list[str],
) -> None:
    sent, most, at_ms = broker(retention_ms), 0, now_ms()

    def generated(*_: object) -> Iterator[ActivityEvent]:
        nonlocal most
        for n in range(EVENTS):
            Held.alive += 1
            most = max(most, Held.alive)
            yield Held(f"a{n}", "bob", "like", "i1", at_ms)

    monkeypatch.setattr(jsonl, "events", generated)
    path = tmp_path / "x.jsonl"
    path.touch()
    assert cli.run(["load", "jsonl", *options, str(path)]) == ExitCode.OK
    assert len(sent.keys) == EVENTS
    assert most <= 2 * CHUNK + 2, "one lot that is made while the one before is not yet forgotten"


def test_one_old_record_at_the_end_and_nothing_is_sent(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = broker(7 * DAY_MS)
    path = tmp_path / "x.jsonl"
    path.write_text(like(now_ms()) * EVENTS + like(1_000))
    assert cli.run(["load", "jsonl", str(path)]) == ExitCode.TOPICS_WRONG
    said = capsys.readouterr().err
    assert "has records of 1970-01-01" in said
    assert "--keep-all" in said
    assert sent.keys == []


def test_one_bad_line_at_the_end_and_strict_sends_nothing(broker: Broker, tmp_path: Path) -> None:
    sent = broker(None)
    path = tmp_path / "x.jsonl"
    path.write_text(like(now_ms()) * EVENTS + "{\n")
    assert cli.run(["load", "jsonl", "--strict", str(path)]) == ExitCode.BAD_INPUT
    assert sent.keys == []


def test_bad_lines_are_counted_once_though_the_file_is_read_twice(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = broker(7 * DAY_MS)
    path = tmp_path / "x.jsonl"
    path.write_text(like(now_ms()) + "{\n" + like(now_ms(), "cy"))
    assert cli.run(["load", "jsonl", str(path)]) == ExitCode.OK
    assert sent.keys == [b"bob", b"cy"]
    said = capsys.readouterr().out
    assert "sent 0 items and 2 activities" in said
    assert "passed over 1 bad lines" in said


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_progress_is_told_in_bytes_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(events, "TOLD_LINES", 10)
    path, told = tmp_path / "x", []
    path.write_bytes(pack(b"".join(b"%s\n" % os.urandom(500).hex().encode() for _ in range(1_000))))
    size = path.stat().st_size
    with opened(path, lambda read, whole: told.append((read, whole))) as lines:
        assert sum(1 for _ in lines) == 1_000
    read = [one for one, _ in told]
    assert {whole for _, whole in told} == {size}
    assert read == sorted(read)
    assert read[-1] == size
    assert len(set(read)) > 3, "not only at the end"


def test_a_pipe_is_sent_where_nothing_can_refuse_it(broker: Broker, tmp_path: Path) -> None:
    sent = broker(None)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(like(now_ms()) * EVENTS), daemon=True)
    writer.start()
    assert cli.run(["load", "jsonl", str(pipe)]) == ExitCode.OK
    writer.join(GUARD_S)
    assert len(sent.keys) == EVENTS


@pytest.mark.parametrize(("retention_ms", "options"), [(DAY_MS, []), (None, ["--strict"])])
def test_a_pipe_that_must_be_looked_through_first_is_refused(
    broker: Broker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    retention_ms: int | None,
    options: list[str],
) -> None:
    broker(retention_ms)
    os.mkfifo(tmp_path / "pipe")
    assert cli.run(["load", "jsonl", *options, str(tmp_path / "pipe")]) == ExitCode.BAD_INPUT
    assert "has to be read twice" in capsys.readouterr().err


def raw(key: str, size: int) -> str:
    value = base64.b64encode(b"x" * size).decode()
    return json.dumps({"type": "record", "key": key, "timestamp": now_ms(), "value": value}) + "\n"


def test_a_record_that_the_client_refuses_is_bad_input_with_its_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(load_command, "TopicsAdmin", lambda *_: Topics(None))
    path = tmp_path / "x.jsonl"
    path.write_text(like(now_ms()) + raw("cy", 1_000_001))
    assert cli.run(["load", "jsonl", str(path)]) == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert "line 2, the record of 'cy' (1,000,001 bytes): Kafka at " in said
    assert "refuses it" in said


def test_of_a_batch_that_the_broker_refuses_the_largest_record_is_named(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Refusing(Taking):
        def __init__(self) -> None:
            super().__init__()
            self.waiting: list[Any] = []

        def produce(self, topic: str, value: bytes, key: bytes, timestamp: int, on_delivery: Any) -> None:
            self.waiting.append(on_delivery)

        def flush(self, _: float) -> int:
            for tell in self.waiting:
                tell(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), Message())
            return 0

    broker(None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(send, "Producer", lambda _: Refusing())
        path = tmp_path / "x.jsonl"
        path.write_text(raw("ann", 10) + raw("cy", 5_000) + raw("dee", 20))
        assert cli.run(["load", "jsonl", str(path)]) == ExitCode.BAD_INPUT
    assert "line 2, the record of 'cy' (5,000 bytes)" in capsys.readouterr().err


def test_what_cannot_be_written_is_bad_input_with_its_name(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broker(None)
    monkeypatch.setattr(
        jsonl, "events", lambda *_: [ActivityEvent("a7", "bob", "like", "i1", now_ms(), position=1 << 40)]
    )
    path = tmp_path / "x.jsonl"
    path.touch()
    assert cli.run(["load", "jsonl", str(path)]) == ExitCode.BAD_INPUT
    assert "the activity 'a7': the activity does not fit its schema" in capsys.readouterr().err
