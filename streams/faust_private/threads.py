"""mode's service in a thread, which can be stopped at any time (before 1, and at the end).

mode does nothing when it is asked to stop a thread that has been launched but has not reached its first line:
the thread then starts a consumer that nobody stops, on behalf of a loop that is closed.
"""

from __future__ import annotations

import asyncio

from mode.threads import ServiceThread

LAUNCH_POLL_S = 0.01


class StoppableThread(ServiceThread):  # type: ignore[misc]
    """Stopping waits for a thread that is on its way. The caller bounds how long."""

    abstract = True

    async def stop(self) -> None:
        thread = self._thread
        # mode tells of it by a flag that another thread sets: nothing can be awaited
        while thread is not None and thread.is_alive() and not self._started.is_set():  # noqa: ASYNC110
            await asyncio.sleep(LAUNCH_POLL_S)
        await super().stop()
