"""A shard on its own, without a broker."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from streams.checkpoint import ShardNames
from streams.faust_private.raw import RawFetch
from streams.inbox import FETCHES_MAX
from streams.observe import Observer
from streams.shard import Reader, Shard


class Held:
    """What a shard must let go of: its RocksDB, its producer."""

    def __init__(self) -> None:
        self.let_go: list[str] = []
        self.store: Any = SimpleNamespace(let_go=lambda: self.let_go.append("store"), gone=self._gone)
        self.checkpoints: Any = SimpleNamespace(run=self._run, give_up=lambda: None, close=self._close)

    async def _run(self) -> None:
        await asyncio.Event().wait()

    async def _gone(self) -> None: ...

    async def _close(self) -> None:
        self.let_go.append("producer")


def test_a_close_that_is_cut_short_lets_go_of_the_directory() -> None:
    """The next assignment opens it again in the same process, which a forgotten lock would refuse."""

    async def apply(shard: Any, batch: Any) -> None: ...

    async def close_and_cancel() -> list[str]:
        held, names = Held(), ShardNames("in", "changelog", 0, "id")
        state: Any = SimpleNamespace()
        shard: Shard[Any] = Shard(names, state, held.store, held.checkpoints, Reader(), apply, 10, Observer())
        shard.start(lambda shard, error: None)
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(shard.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        return held.let_go

    assert asyncio.run(close_and_cancel()) == ["store", "producer"]


def test_a_shard_with_more_than_it_can_take_is_paused_and_told_of_until_it_is_given_up() -> None:
    """Metrics count paused partitions: one that moves while it is paused must not stay counted here."""
    told: list[tuple[str, bool]] = []

    class Told(Reader, Observer):
        def pause(self, topic: str, partition: int) -> None:
            told.append(("fetch", False))

        def resume(self, topic: str, partition: int) -> None:
            told.append(("fetch", True))

        def paused(self, topic: str, partition: int, on: bool) -> None:
            told.append(("paused", on))

    async def apply(shard: Any, batch: Any) -> None: ...

    async def story() -> None:
        held, both, state = Held(), Told(), SimpleNamespace()
        names = ShardNames("in", "changelog", 0, "id")
        shard: Shard[Any] = Shard(names, state, held.store, held.checkpoints, both, apply, 10, both)
        shard.start(lambda shard, error: None)
        await asyncio.sleep(0)  # its tasks begin
        for start in range(FETCHES_MAX + 1):
            shard.deliver(RawFetch("in", 0, start, start + 1, [], [], True, 9))
        assert told == [("fetch", False), ("paused", True)]
        shard.let_go()
        await shard.close()

    asyncio.run(story())
    assert told == [("fetch", False), ("paused", True), ("fetch", True), ("paused", False)]
