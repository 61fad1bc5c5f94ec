"""Benchmark `memory`: resident bytes per active user, per item and per follow edge.

Each is measured in a process of its own (`python -m benchmarks.memory KIND COUNT`): resident set after
filling the structure that the worker uses, minus before, divided by the number of things.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.figure import Figure
from benchmarks.place import Place
from benchmarks.processes import resident_mb
from benchmarks.stream import user_id
from benchmarks.worker import source_path

USERS = 200_000
ITEMS = 200_000
FOLLOWS = 200
EMBEDDING_BYTES = 64
BYTES_PER_MB = 1 << 20
GOALS: dict[str, tuple[int, float | None, str]] = {
    "active user": (USERS, 1_576.0, "row of 1.5 KB and key index of 40 bytes; seen pages apart"),
    "seen page": (USERS, None, "64 impressions of one user"),
    "item": (ITEMS, None, "in the index of every worker, with an embedding of 64 bytes"),
    "item, embedding apart": (ITEMS, 600.0, "the same less the embedding"),
    "follow edge": (USERS // 4 * FOLLOWS, 8.0, f"graph rows of {FOLLOWS} followees each"),
    "follow edge, inverted": (USERS // 4 * FOLLOWS, 8.0, "author to followers, of active users only"),
}
"""Kind -> how many, goal in bytes, what it is."""


def run(place: Place) -> Iterator[Figure]:
    """One figure per kind."""
    for kind, (count, goal, note) in GOALS.items():
        command = [sys.executable, "-m", "benchmarks.memory", kind, str(count)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | source_path()
        )
        if done.returncode:
            raise RuntimeError(f"the probe of {kind} failed: {done.stderr[-1_500:]}")
        value = float(done.stdout) - (EMBEDDING_BYTES if kind == "item, embedding apart" else 0)
        yield Figure("memory", kind, value, "bytes", goal=goal, better="lower", note=f"{count:,}: {note}")


def users(count: int) -> object:
    """Rows and key index of `count` users in one partition."""
    from topologies.user_rows import UserRows

    rows = UserRows(count, resident=True)
    for start in range(0, count, 1_000):
        rows.make_resident([user_id(n).encode() for n in range(start, min(start + 1_000, count))])
    rows.arena.rows["ids"][:count] = 1  # memory counts once it is written to
    rows.arena.rows["embedding"][:count] = 1
    return rows


def seen(count: int) -> object:
    """One page of impressions for each of `count` users, without their rows."""
    from models.seen import PAGE_BYTES, SeenPages

    pages, block = SeenPages(count), 1_000
    for start in range(0, count, block):
        slots = np.arange(start, start + block)
        pages.restore(slots, np.zeros(block, np.int64), b"\1" * (PAGE_BYTES * block))
    return pages


def items(count: int) -> object:
    """The item index with `count` items of `count / 20` authors on 200 topics, and their statistics."""
    from models.fingerprint import fp64s
    from models.item_columns import ItemRecord
    from models.item_index import ItemIndex
    from models.items import DERIVED

    index = ItemIndex(count)
    rng = np.random.default_rng(7)
    for start in range(0, count, 1_000):
        names = [f"i-{n:07d}" for n in range(start, start + 1_000)]
        vectors = rng.integers(-127, 128, (1_000, 64)).astype(np.int8)
        records = [
            ItemRecord(
                name,
                f"author-{n % (count // 20):05d}",
                1_790_000_000_000 + n,
                (f"topic-{n % 197}", f"topic-{n % 199}"),
                vectors[n % 1_000],
                f"Title of item number {n}",
            )
            for n, name in enumerate(names, start)
        ]
        index.upsert(records)
        derived = np.zeros(1_000, DERIVED)
        derived["first_s"] = 1
        index.apply_derived(np.array(fp64s([name.encode() for name in names]), np.uint64), derived)
    index.refresh(1, 1_790_000_000_000 + count)
    return index


def edges(count: int) -> object:
    """Graph rows of `count / FOLLOWS` users, as they come back from the changelog."""
    from models.graph import GraphRow, Graphs

    graphs, rng = Graphs(), np.random.default_rng(7)
    for slot in range(count // FOLLOWS):
        follows = rng.integers(0, 1 << 63, FOLLOWS).astype(np.uint64)
        graphs.restore(slot, GraphRow(follows=follows, follow_kinds=np.zeros(FOLLOWS, np.uint8)).encode())
    return graphs


def inverted(count: int) -> object:
    """Who follows an author, for `count / FOLLOWS` active users and a tenth as many authors as users."""
    from models.followers import Followers

    followers, rng = Followers(), np.random.default_rng(7)
    users_count = count // FOLLOWS
    for slot in range(users_count):
        followers.add(slot, rng.integers(0, users_count // 10, FOLLOWS).tolist())
    return followers


PROBES: dict[str, Callable[[int], object]] = {
    "active user": users,
    "seen page": seen,
    "item": items,
    "item, embedding apart": items,
    "follow edge": edges,
    "follow edge, inverted": inverted,
}


def probe(kind: str, count: int) -> float:
    """Resident bytes of one thing, in this process."""
    PROBES[kind](min(count, 10_000))  # imports and first allocations do not count
    gc.collect()
    before = resident_mb()
    kept = PROBES[kind](count)
    gc.collect()
    grown = resident_mb() - before
    assert kept is not None
    return grown * BYTES_PER_MB / count


if __name__ == "__main__":
    print(probe(sys.argv[1], int(sys.argv[2])))
