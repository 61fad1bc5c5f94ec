"""One replay that tells what it took; what the benchmark `replay` starts.

    python -m benchmarks.replay_run DIRECTORY JOBS

Its other processes import this module again, so it imports no more than `feedrank replay` does.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from streams.settings import Settings
from topologies.replay.run import Replay
from topologies.replay.shadow import Shadow


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


def main(directory: Path, jobs: int) -> None:
    """Carry out the replay that is defined in a directory; print what it took as JSON."""
    watcher = Timed()
    replay = Replay(Shadow(directory), Settings.load(), jobs, watcher, lambda one: ())
    replay.run()
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    print(
        json.dumps(
            {
                "cpu_s": {phase: spent.cpu_s for phase, spent in replay.spent.items()},
                "checkpoint_s": sum(spent.checkpoint_s for spent in replay.spent.values()),
                "result_s": sum(spent.result_s for spent in replay.spent.values()),
                "rows_wall_s": watcher.began["features"] - watcher.began["users"],
                "peak_mb": max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1_024,
                "feeds": watcher.feeds,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
