"""Committed rows to RocksDB (2, 4), in slices between which the loop runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from streams.durable import POSITION_KEY, ShardState
from streams.observe import Observer
from streams.store import ShardStore

ROWS_PER_SLICE = 500
"""Half of what RocksDB may take at once: it holds the GIL for 2 to 4 ms."""


class Flusher:
    """Brings what is committed at the time of the call to RocksDB; one pass at a time.

    `changelog_next` tells up to where the changelog is contained in what the state offers *now*.
    """

    def __init__(
        self,
        name: tuple[str, int],
        state: ShardState,
        store: ShardStore,
        changelog_next: Callable[[], int],
        observer: Observer,
    ) -> None:
        self._name, self._state, self._store = name, state, store
        self._changelog_next, self._observer = changelog_next, observer
        self._through: int | None = None
        self._one = asyncio.Lock()

    async def flush(self) -> None:
        """One pass, or the rest of one that was cut short.

        Raises OperatorError (disk), StoreClosed (the shard was given up meanwhile).
        """
        async with self._one:
            if self._through is None:
                self._through = self._changelog_next()
            whole = False
            while not whole:
                started = time.perf_counter()
                rows = self._state.flush_slice(ROWS_PER_SLICE)
                if not rows:
                    break
                whole = len(rows) < ROWS_PER_SLICE or any(key == POSITION_KEY for key, _ in rows[-1:])
                self._store.write(rows, self._through if whole else None)
                self._state.flushed(rows)
                self._observer.flushed(*self._name, len(rows), time.perf_counter() - started)
                if not whole:
                    await asyncio.sleep(0)
            self._through = None
