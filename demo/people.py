"""The simulated people as seen by the demo: their process, and what it last said."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from demo.click_through import Rate
from demo.environment import SIMULATOR
from demo.processes import Child, start
from demo.simulator import GO, Task
from demo.traffic import Sent


@dataclass(slots=True)
class People:
    """Starts, tells to go on and ends the simulator. `heard` is its last report."""

    child: Child
    heard: Mapping[str, Any] = field(default_factory=dict)
    _listener: threading.Thread = field(init=False)

    @classmethod
    def begin(cls, task: Task, directory: Path, environment: Mapping[str, str]) -> People:
        """Start the process; it makes the past and then waits for `go`."""
        command = [*SIMULATOR, orjson.dumps(asdict(task)).decode()]
        return cls(start("simulator", command, directory, environment, piped=True))

    def __post_init__(self) -> None:
        self._listener = threading.Thread(target=self._listen, name="people", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        """Only this thread reads the pipe; it ends with the process."""
        stdout = self.child.process.stdout
        assert stdout is not None
        with contextlib.suppress(ValueError):  # closed under us
            for line in stdout:
                self.heard = orjson.loads(line)

    @property
    def phase(self) -> str:
        return str(self.heard.get("phase", ""))

    @property
    def acked(self) -> int:
        """Activities that the broker has confirmed."""
        return int(self.heard.get("acked", 0))

    @property
    def sent(self) -> Sent:
        """Activities handed over, by kind."""
        return Sent(**self.heard.get("sent", {}))

    @property
    def groups(self) -> dict[str, Rate]:
        """Click-through by group."""
        return {group: Rate(**rate) for group, rate in self.heard.get("groups", {}).items()}

    def go(self) -> None:
        """Let the sessions begin."""
        stdin = self.child.process.stdin
        assert stdin is not None
        stdin.write(GO)
        stdin.flush()

    def finish(self, deadline_s: float) -> int:
        """Let them finish what they do, send it and end; the exit code."""
        self.child.expected_to_end = True
        if self.child.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.child.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.process.wait(deadline_s)
        self._listener.join(deadline_s)
        return self.child.stop(deadline_s)
