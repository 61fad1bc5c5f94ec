"""Settled feeds on disk: a disk that is full ends the step, and what was not kept is made again."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from streams.errors import ExitCode, OperatorError
from streams.feeds import FeedToWrite
from topologies.replay.feeds import FileSink, feed_key
from wire.chunks import Entries

USERS = [f"user-{number:03d}" for number in range(200)]


def feed(user: str) -> FeedToWrite:
    return FeedToWrite(user, "for_you", "1", 1, 2, "policy" * 20, "model", Entries([], [], []))


def test_a_full_disk_at_the_last_flush_is_no_success(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "feeds-0")
    asyncio.run(sink.write([feed(user) for user in USERS], USERS[-1].encode()))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 10, hard))  # no file may be larger
    try:
        with pytest.raises(OperatorError, match="cannot write RocksDB") as refused:
            sink.keep()
        asyncio.run(sink.close())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.exit_code is ExitCode.DATA_DIRECTORY

    sink = FileSink(tmp_path / "feeds-0")
    assert sink.done == b""  # the step knows that it is not done
    asyncio.run(sink.write([feed(user) for user in USERS], USERS[-1].encode()))
    sink.keep()
    asyncio.run(sink.close())
    sink = FileSink(tmp_path / "feeds-0")
    assert sink.done == USERS[-1].encode()
    assert sink._store.get(feed_key("for_you", USERS[7])) is not None
    asyncio.run(sink.close())
