"""A rolling restart of three workers: `python -m tests.chaos.rolling [--static]`.

Each worker in turn is stopped with SIGTERM and started again on its directory once it has ended; the next one
follows when it is ready. Printed is the longest time that each partition's position stood still, as the
workers' own metrics tell it ten times a second, while records came all the time.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from tests.chaos.load import Generator
from tests.chaos.world import PARTITIONS, Slot, World
from tests.waiting import ended, until

SECONDS_MAX = 240
PER_S = 60
POLL_S = 0.1
CALM_S = 6.0
POSITION = re.compile(
    r'^feedrank_position_records\{partition="(\d+)",topic="feedrank\.activities"\} (\S+)', re.MULTILINE
)


class PositionWatch(threading.Thread):
    """Asks every worker for its positions. `gap_s`: each partition's longest standstill since `begin`."""

    def __init__(self, world: World) -> None:
        super().__init__(name="positions", daemon=True)
        self.gap_s = dict.fromkeys(range(PARTITIONS), 0.0)
        self._world, self._ending = world, threading.Event()
        self._last: dict[int, tuple[float, float]] = {}

    def run(self) -> None:
        while not self._ending.wait(POLL_S):
            for slot in self._world.slots:
                for partition, position in self._ask(slot):
                    self._seen(partition, position, time.monotonic())

    def _ask(self, slot: Slot) -> list[tuple[int, float]]:
        if slot.worker is None:
            return []
        try:
            url = f"http://127.0.0.1:{slot.worker.port}/metrics"
            with urllib.request.urlopen(url, timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return []
        return [(int(p), float(at)) for p, at in POSITION.findall(text)]

    def _seen(self, partition: int, position: float, now: float) -> None:
        before, since = self._last.get(partition, (-1.0, now))
        if position > before:
            self.gap_s[partition] = max(self.gap_s[partition], now - since)
            self._last[partition] = (position, now)

    def begin(self) -> None:
        """Forget what was before."""
        self.gap_s = dict.fromkeys(self.gap_s, 0.0)

    def stop(self) -> None:
        """End it."""
        self._ending.set()
        self.join(30)


def run(directory: Path, static: bool) -> list[float]:
    """Longest standstill of each partition, seconds."""
    world = World.start(directory)
    world.job.settings["SESSION_TIMEOUT_MS"] = "15000"
    try:
        generator = Generator(world.job.bootstrap, 1, SECONDS_MAX * PER_S, SECONDS_MAX)
        generator.send_items()
        for n in range(len(world.slots)):
            _launch(world, n, static)
        generator.start()
        watch = PositionWatch(world)
        watch.start()
        time.sleep(CALM_S)
        watch.begin()
        for n, slot in enumerate(world.slots):
            assert slot.worker is not None
            slot.worker.process.terminate()
            ended(slot.worker.process)
            _launch(world, n, static)
            time.sleep(CALM_S)
        watch.stop()
        return [watch.gap_s[p] for p in range(PARTITIONS)]
    finally:
        world.close()


def _launch(world: World, n: int, static: bool) -> None:
    """Start the slot's worker and wait until it is ready."""
    if static:
        world.job.settings["GROUP_INSTANCE_ID"] = f"worker-{n}"
    worker = world.launch(world.slots[n])
    until(worker.ready, "a worker is ready")


def main() -> int:
    """Print the gaps."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.rolling", description=__doc__)
    parser.add_argument("--static", action="store_true", help="with GROUP_INSTANCE_ID")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="feedrank-rolling-") as directory:
        gaps = run(Path(directory), chosen.static)
    print("partitions stood still for " + ", ".join(f"{gap:.1f} s" for gap in gaps))
    print(f"median {statistics.median(gaps):.1f} s, longest {max(gaps):.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
