"""Faust's tables as a frame for shards (2, 4): assignment and life cycle are Faust's, rows are ours.

A table must exist: without a changelog topic Faust silently takes a round-robin assignor, and the partitions
of source and changelog would no longer be given to the same worker.

| what of Faust's is replaced | why |
|---|---|
| Recovery | a slow broker ends it silently for ever; a marker at the changelog's tail hangs it |
| Store | rows are read and written by shards only |
| declaring the changelog topic | `feedrank topics create` does |
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import faust
from faust.stores.base import Store
from faust.tables import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.types import TP
from mode import Service

from streams.log import logger

log = logger(__name__)


class NoStore(Store):  # type: ignore[misc]
    """A table's store that holds nothing and lets nobody in."""

    def persisted_offset(self, tp: TP) -> None:
        """Recovery does not ask here."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("rows belong to shards: use Shards.open[partition].state")

    __getitem__ = __setitem__ = __delitem__ = __iter__ = _refuse
    clear = backup_partition = restore_backup = apply_changelog_batch = _refuse

    def __len__(self) -> int:
        return 0

    def reset_state(self) -> None:
        """Nothing is held."""


class FrameTable(faust.Table):  # type: ignore[misc]
    """One per job. Closing it closes the job's shards: Faust stops tables before the consumer."""

    def __init__(self, app: faust.App, name: str, changelog: str, stop: Any) -> None:
        self._changelog_name, self._stop_shards = changelog, stop
        super().__init__(app, name=name, key_type=bytes, value_type=bytes)

    def _changelog_topic_name(self) -> str:
        return str(self._changelog_name)

    def _new_store(self) -> NoStore:
        return NoStore("none://", self.app, self, table_name=self.name, loop=self.loop)

    async def on_start(self) -> None:
        await self.add_runtime_dependency(self.data)

    async def on_stop(self) -> None:
        await self._stop_shards()
        await super().on_stop()


class ShardRecovery(Recovery):  # type: ignore[misc]
    """Waits for assignments and has the shards recover; a revocation or a newer assignment cuts it short."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._revoked = asyncio.Event()
        super().__init__(*arguments, **options)

    # Overridden tasks must stay tasks: mode asserts that a service's tasks are ServiceTask objects.
    @Service.task  # type: ignore[untyped-decorator]
    async def _slurp_changelogs(self) -> None:
        """Faust reads changelogs here."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _publish_stats(self) -> None:
        """Faust prints how far it is; the observer is told instead."""

    def flush_buffers(self) -> None:
        """Nothing is buffered."""

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """A recovery that is going on is for an assignment that has passed."""
        self._revoked.set()

    @Service.task  # type: ignore[untyped-decorator]
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                return
            self.signal_recovery_start.clear()
            self._revoked.clear()
            generation = self._generation_id
            self.in_recovery = self.app.in_recovery = True
            try:
                await self._unless_moved(self.app.recover(set(self.active_tps)))
                await self._unless_moved(self.on_recovery_completed(generation))
            except RebalanceAgain:
                continue
            except ServiceStopped:
                return
            except Exception as error:
                self.app.fail(error)
                return

    async def _unless_moved(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it; cut it short for a newer assignment or when the worker stops. Afterwards it has ended."""
        task = asyncio.ensure_future(work)
        others = [
            asyncio.ensure_future(event.wait())
            for event in (self.signal_recovery_start, self._revoked, self._stopped)
        ]
        try:
            await asyncio.wait([task, *others], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ServiceStopped if self._stopped.is_set() else RebalanceAgain
            task.result()
        finally:
            for other in others:
                other.cancel()
            await _see_it_end(task)


async def _see_it_end(task: asyncio.Task[None]) -> None:
    """Cancel it, if it has not ended, and wait until it has let go of what it had half opened: also when mode
    cancels the caller meanwhile, as it does when it stops. The time to stop bounds that."""
    task.cancel()
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # of one that was cut short: nobody asks


class ShardTableManager(TableManager):  # type: ignore[misc]
    """Faust's, with our recovery."""

    _recovery: ShardRecovery | None = None

    async def on_start(self) -> None:
        """As Faust's, without its second of sleep."""
        await self._update_channels()
        await self.recovery.start()

    @property
    def recovery(self) -> ShardRecovery:
        """Made at first use, as in Faust."""
        if self._recovery is None:
            self._recovery = ShardRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
