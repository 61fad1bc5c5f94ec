"""A changelog whose bytes arrive damaged: read again, given up with a message, never taken for empty."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatch

import streams.recovery
from streams.durable import Row
from streams.errors import ExitCode, OperatorError
from streams.faust_private.raw import RawFetch
from streams.recovery import CORRUPT_MAX, EMPTY_ANSWERS_MIN, ChangelogReader, Replay
from tests.streams.fakes import kafka_at
from tests.streams.logs import Log

TP = TopicPartition("changelog", 0)
ROWS = 3


class Damaging:
    """A consumer of one partition; its first `times` fetches have a wrong bit."""

    def __init__(self, times: int) -> None:
        self.times, self.position, self.answers = times, 0, 0

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, ROWS)

    def assign(self, tps: list[TopicPartition]) -> None: ...

    def pause(self, *tps: TopicPartition) -> None: ...

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.position = offset

    def highwater(self, tp: TopicPartition) -> int:
        return ROWS

    def fetch(self) -> list[RawFetch]:
        log = Log()
        log.append([b"row"] * ROWS)
        data = bytearray(log.since(0))
        if self.answers < self.times:
            data[-1] ^= 1
        self.answers, self.position = self.answers + 1, ROWS
        return [RawFetch(TP.topic, 0, 0, ROWS, [DefaultRecordBatch(bytes(data))], [], True, ROWS)]


def replayed(times: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Rows that came of a changelog of three, damaged so many times."""
    consumer: Any = Damaging(times)
    found: list[Row] = []

    async def take(consumer: Damaging, want: Any, timeout_s: float) -> list[RawFetch]:
        return consumer.fetch()

    async def restore(rows: list[Row], next_offset: int) -> None:
        found.extend(rows)

    monkeypatch.setattr(streams.recovery, "AIOKafkaConsumer", lambda **_: consumer)
    monkeypatch.setattr(streams.recovery, "take", take)
    monkeypatch.setattr(streams.recovery, "position_of", lambda consumer, tp: consumer.position)
    monkeypatch.setattr(streams.recovery, "answered_at", lambda consumer, tp: consumer.answers)
    reader = ChangelogReader(kafka_at("localhost:9092"))
    asyncio.run(reader.replay([Replay(TP.topic, 0, -1, restore, lambda: None)]))
    return len(found)


@pytest.mark.parametrize("times", [0, 1, EMPTY_ANSWERS_MIN + 1, CORRUPT_MAX])
def test_damaged_answers_are_not_empty_ones(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken for compaction, they would open a shard without its rows and its position."""
    assert replayed(times, monkeypatch) == ROWS


def test_damage_that_stays_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OperatorError, match="stays damaged") as caught:
        replayed(CORRUPT_MAX + 1, monkeypatch)
    assert caught.value.exit_code == ExitCode.BROKER_UNREACHABLE
