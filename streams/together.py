"""What is done to many shards at once (2, 4)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from streams.shard import Shard


async def run_all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all to their end, then raise the first error."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def close_all(shards: Iterable[Shard[Any]], flush: bool = False) -> None:
    """Close them, all at the same time: a disk that is full makes each wait for a second. `flush` as
    `Shard.close`. They are let go of also when this is cut short."""
    closing = list(shards)
    try:
        await run_all(shard.close(flush) for shard in closing)
    finally:  # a close that is cancelled before its first turn has done nothing
        for shard in closing:
            shard.let_go()
