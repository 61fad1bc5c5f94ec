"""Many seeds, on all cores."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from tests.simulation.redis_server import RedisServer
from tests.simulation.simulation import Verdict, play
from tests.simulation.teeth import broken

CHUNK = 10
COLLECT_EVERY = 4
SHARED_MEMORY = Path("/dev/shm")


def say_nothing_of_the_dead() -> None:
    """Coroutines of killed processes never run to their end; Python would tell of each."""
    logging.disable(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited")
    sys.unraisablehook = lambda _: None


class Table:
    """What seeds are played on, one after the other: a directory and a Redis of a process."""

    def __init__(self, directory: Path) -> None:
        say_nothing_of_the_dead()
        self._disk, self._redis = directory / "disk", RedisServer(directory)
        self.play(0)  # imports and caches come with the first seed
        gc.freeze()  # and are not walked again and again

    def play(self, seed: int) -> Verdict:
        """One seed; it leaves cycles, and holds the collector off."""
        verdict = play(seed, self._disk, self._redis)
        if seed % COLLECT_EVERY == 0:
            gc.collect()
        return verdict

    def close(self) -> None:
        """Nothing is left of it but its directory."""
        self._redis.stop()


@contextmanager
def _directory() -> Iterator[str]:
    base = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=base, ignore_cleanup_errors=True) as path:
        yield path


def until_noticed(seeds: range, mechanisms: list[str]) -> Iterator[tuple[str, list[Verdict]]]:
    """Each of these, and seeds with it broken: up to the first that notices it."""
    with _directory() as path:
        table = Table(Path(path))
        try:
            for mechanism in mechanisms:
                found: list[Verdict] = []
                with broken(mechanism):
                    for seed in seeds:
                        found.append(table.play(seed))
                        if found[-1].wrong:
                            break
                yield mechanism, found
        finally:
            table.close()


_tables: list[Table] = []
"""Of this process of the pool: one."""


def _lay(directory: str) -> None:
    """A process of the pool begins. Its Redis dies with it."""
    _tables.append(Table(Path(tempfile.mkdtemp(dir=directory))))


def _play(seeds: range) -> list[Verdict]:
    return [_tables[0].play(seed) for seed in seeds]


def verdicts(first: int, count: int, jobs: int, seconds: float | None = None) -> Iterator[Verdict]:
    """Of `count` seeds from `first`, in any order; after `seconds` no more are begun."""
    chunks = [range(at, min(at + CHUNK, first + count)) for at in range(first, first + count, CHUNK)]
    until_s = time.monotonic() + seconds if seconds is not None else float("inf")
    spawned = multiprocessing.get_context("spawn")
    with _directory() as path, ProcessPoolExecutor(jobs, spawned, _lay, (path,)) as pool:
        pending = [pool.submit(_play, chunk) for chunk in chunks]
        for done in as_completed(pending):
            if not done.cancelled():
                yield from done.result()
            if time.monotonic() > until_s:
                for future in pending:
                    future.cancel()
