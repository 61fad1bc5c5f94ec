"""Fetches that wait for one shard (1), and the brake on what fetches more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streams.faust_private.raw import RawFetch

FETCHES_MAX = 2
"""From here on the partition is not fetched."""


class Inbox:
    """`pause` and `resume` are called when it fills up and when there is room again."""

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause, self._resume = pause, resume
        self._waiting: asyncio.Queue[RawFetch] = asyncio.Queue()
        self._kept: RawFetch | None = None
        self._full = False

    def put(self, fetch: RawFetch) -> None:
        """Never blocks."""
        self._waiting.put_nowait(fetch)
        if not self._full and self._waiting.qsize() >= FETCHES_MAX:
            self._full = True
            self._pause()

    async def next(self) -> RawFetch:
        """What waits, as one fetch where it joins: a slice costs the same however few records it has."""
        fetch, self._kept = self._kept or await self._waiting.get(), None
        while self._kept is None and not self._waiting.empty():
            more = self._waiting.get_nowait()
            if more.goes_on(fetch):
                fetch = fetch.joined(more)
            else:
                self._kept = more
        self._make_room()
        return fetch

    def drop(self) -> None:
        """Forget what waits."""
        self._kept = None
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._make_room()

    def _make_room(self) -> None:
        if self._full and self._waiting.qsize() < FETCHES_MAX:
            self._full = False
            self._resume()
