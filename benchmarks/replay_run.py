"""One replay that tells what it took; what the benchmark `replay` starts.

    python -m benchmarks.replay_run DIRECTORY JOBS

Its other processes import this module again, so it imports no more than `feedrank replay` does.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from benchmarks.processes import peak_mb
from streams.settings import Settings
from topologies.replay.run import Replay
from topologies.replay.shadow import Shadow

LOOK_S = 0.1


class Timed:
    """When each phase began, and how many feeds were made."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.feeds = 0
        self._name = ""

    def phase(self, name: str, total: int | None) -> None:
        """See topologies.replay.run.Watcher."""
        self._name, self.began[name] = name, time.monotonic()

    def moved(self, count: int) -> bool:
        """See topologies.replay.run.Watcher."""
        self.feeds += count if self._name == "feeds" else 0
        return True


class PeakMemory:
    """The largest resident sets of this process and of its children, added up: looked at every LOOK_S."""

    def __init__(self) -> None:
        self._mb: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def mb(self) -> float:
        """Ends the looking."""
        self._ended.set()
        self._thread.join()
        return sum(self._mb.values())

    def _look(self) -> None:
        while not self._ended.wait(LOOK_S):
            children = Path("/proc/self/task").glob("*/children")
            for pid in ("self", *(pid for one in children for pid in one.read_text().split())):
                self._mb[pid] = max(self._mb.get(pid, 0.0), peak_mb(pid))


def main(directory: Path, jobs: int) -> None:
    """Carry out the replay that is defined in a directory; print what it took as JSON."""
    watcher, memory = Timed(), PeakMemory()
    replay = Replay(Shadow(directory), Settings.load(), jobs, watcher, lambda one: ())
    replay.run()
    print(
        json.dumps(
            {
                "cpu_s": {phase: spent.cpu_s for phase, spent in replay.spent.items()},
                "checkpoint_s": sum(spent.checkpoint_s for spent in replay.spent.values()),
                "result_s": sum(spent.result_s for spent in replay.spent.values()),
                "rows_wall_s": watcher.began["features"] - watcher.began["users"],
                "peak_mb": memory.mb(),
                "feeds": watcher.feeds,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
