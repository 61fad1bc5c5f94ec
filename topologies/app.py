"""The same worker for those who know Faust: `faust -A topologies.app worker --without-web`.

The app is made when it is first asked for, from the settings in the environment. `Custody` does for
Faust's runner what `streams.transport.run_worker` does for ours.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack
from typing import Any

from mode import Service

from streams.blame import blamed
from streams.data_dir import claimed
from streams.errors import OperatorError
from streams.log import setup
from streams.settings import Settings
from streams.transport import STOP_GRACE_S, ShardApp, explain
from topologies.start import prepare


class Custody(Service):  # type: ignore[misc]
    """Holds the data directory, keeps our log lines, and ends the process with the code of what failed."""

    def __init__(self, app: ShardApp, settings: Settings) -> None:
        super().__init__()
        self._app, self._settings = app, settings
        self._held = ExitStack()
        self._held.enter_context(claimed(app.site.directory))
        self._ending: asyncio.Task[None] | None = None

    async def on_start(self) -> None:
        setup(self._settings.observability, sys.__stderr__)  # Faust has set up its own, and sys.stderr too
        self._ending = asyncio.create_task(self._end_when_failed())

    async def _end_when_failed(self) -> None:
        """A task of its own: stopping the app ends all that its services run."""
        await self._app.failed.wait()
        code = explain(await blamed(self._app.failure, self._app.topics_wrong))
        await asyncio.wait(
            [asyncio.ensure_future(self._app.stop())], timeout=self._app.site.stop_s + STOP_GRACE_S
        )
        os._exit(code)  # Faust would end with 1, whatever the reason


def _make() -> ShardApp:
    """The app. Ends the process with one message and its exit code where `feedrank worker` would."""
    try:
        settings = Settings.load()
        app = prepare(settings)()
        app.beside.insert(0, Custody(app, settings))  # what the others say at their start is told
    except OperatorError as error:
        print(f"feedrank: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
    return app


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    globals()["app"] = _make()
    return globals()["app"]
