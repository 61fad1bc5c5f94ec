"""Many seeds, on all cores."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.simulation.redis_server import RedisServer
from tests.simulation.simulation import Verdict, play
from tests.simulation.teeth import broken

CHUNK = 10
SHARED_MEMORY = Path("/dev/shm")


def play_all(seeds: range, mechanism: str | None = None) -> list[Verdict]:
    """In a process of its own, with a Redis of its own; a broken mechanism: up to the first who notices."""
    logging.disable(logging.CRITICAL)
    base = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="simulation-", dir=base))
    redis = RedisServer(directory)
    gc.freeze()  # what was imported is not walked again and again
    try:
        found: list[Verdict] = []
        with broken(mechanism):
            for seed in seeds:
                found.append(play(seed, directory / "disk", redis))
                gc.collect()  # a run leaves cycles, and holds the collector off
                if mechanism is not None and found[-1].wrong:
                    break
        return found
    finally:
        redis.stop()
        shutil.rmtree(directory, ignore_errors=True)


def verdicts(first: int, count: int, jobs: int, seconds: float | None = None) -> Iterator[Verdict]:
    """Of `count` seeds from `first`, in any order; after `seconds` no more are begun."""
    chunks = [range(at, min(at + CHUNK, first + count)) for at in range(first, first + count, CHUNK)]
    until_s = time.monotonic() + seconds if seconds is not None else float("inf")
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        pending = [pool.submit(play_all, chunk) for chunk in chunks]
        for done in as_completed(pending):
            if not done.cancelled():
                yield from done.result()
            if time.monotonic() > until_s:
                for future in pending:
                    future.cancel()
