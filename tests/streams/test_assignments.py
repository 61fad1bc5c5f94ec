"""A recovery inside Faust's services: whatever cuts it short, it has ended when they go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.concerns import CheckpointSettings, WorkerSettings
from streams.faust_private.tables import ShardRecovery
from streams.transport import ShardApp, create_app
from tests.streams.fakes import kafka_at
from wire.names import Namespace

TURNS_TO_LET_GO = 20
"""Of the loop: a producer that stops and a RocksDB that is closed take more."""


def stopped(recovery: ShardRecovery) -> Any:
    return recovery.stop()


async def moved(recovery: ShardRecovery) -> None:
    """A newer assignment, whose recovery begins when the one before has ended."""
    recovery.signal_recovery_start.set()
    await recovery.app.began.wait()


@pytest.mark.parametrize("end", [stopped, moved])
def test_a_recovery_that_is_cut_short_has_let_go_before_anything_goes_on(
    tmp_path: Path, end: Callable[[ShardRecovery], Any]
) -> None:
    told: list[str] = []

    async def story() -> None:
        app: Any = app_in(tmp_path)
        app.began = asyncio.Event()

        async def recover(changelogs: set[Any]) -> None:
            told.append("began")
            app.began.set()
            try:
                await asyncio.Event().wait()
            finally:
                for _ in range(TURNS_TO_LET_GO):
                    await asyncio.sleep(0)
                told.append("let go")

        app.recover = recover
        recovery = ShardRecovery(app, app.tables)
        await recovery.start()
        recovery.signal_recovery_start.set()
        await app.began.wait()
        app.began.clear()
        await end(recovery)
        told.append("went on")
        await recovery.stop()
        assert told.count("began") == told.count("let go")
        app.consumer._thread.thread_loop.close()

    asyncio.run(story())
    before = told[: told.index("went on")]
    assert before[:2] == ["began", "let go"]


def app_in(directory: Path) -> ShardApp:
    """Built, not started."""
    worker = WorkerSettings(FEEDRANK_DATA_DIR=directory)
    return create_app(Namespace("test"), kafka_at("127.0.0.1:1"), worker, CheckpointSettings())
