"""Item index and candidates: bytes, updates, refresh and gather, one JSON object a line.

python -m benchmarks.index [--items 100000] [--users 320]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import Figure
from benchmarks.measure import on_one_thread
from models.candidates import FOR_YOU, CandidateLimits, Query, draw_seeds, gather
from models.fingerprint import FP32, FP48, fp64
from models.graph import GraphRow
from models.item_columns import EMBEDDING_DIM, ItemRecord
from models.item_index import ItemIndex
from models.items import DERIVED
from models.users import USER_ROW
from models.verbs import Role, Verb, VerbTable

AS_OF_MS = 1_700_000_000_000
TOPICS = 200
FOLLOWS = 200
SLICE_USERS = 64
VERBS = VerbTable([Verb("like", Role.STRONG), Verb("click", Role.WEAK)])


@dataclass(frozen=True)
class BenchUsers:
    """Users with full rows and FOLLOWS follows each."""

    fp: NDArray[np.uint64]
    rows: NDArray[np.void]
    graph: list[GraphRow]

    @property
    def merged(self) -> NDArray[np.void]:
        return self.rows


def figure(name: str, value: float, unit: str, goal: float | None = None) -> None:
    """One line; a goal is a value not to exceed."""
    measured = Figure(name, "feedrank", value, unit, goal=goal, better="lower")
    print(json.dumps(measured.fields()), flush=True)


def items(count: int, random: np.random.Generator) -> list[ItemRecord]:
    """Items of zipf-like authors and topics over 30 days."""
    authors = (random.pareto(1.0, count) * count / 200).astype(np.int64) % (count // 10)
    topics = random.integers(0, TOPICS, (count, 2))
    ages = random.integers(0, 30 * 86_400_000, count)
    embeddings = random.integers(-127, 128, (count, EMBEDDING_DIM)).astype(np.int8)
    return [
        ItemRecord(
            f"item-{i:012d}",
            f"author-{authors[i]}",
            int(AS_OF_MS - ages[i]),
            (f"topic-{topics[i, 0]}", f"topic-{topics[i, 1]}"),
            embeddings[i],
            f"A title of usual length, number {i}",
        )
        for i in range(count)
    ]


def features(count: int, authors: NDArray[np.uint64], random: np.random.Generator) -> NDArray[np.void]:
    """DERIVED[count]: a third of the items has engagers (authors, who are users too)."""
    rows = np.zeros(count, DERIVED)
    rows["tick"] = 1
    rows["h1"] = random.integers(0, 4, (count, 5)) * (random.random((count, 1)) < 0.1)
    rows["h24"] = rows["h1"] + random.integers(0, 20, (count, 5))
    rows["d7"] = rows["h24"] + random.integers(0, 200, (count, 5))
    rows["examined"] = rows["d7"][:, 0] * random.integers(7, 46, count)
    rows["last_s"] = AS_OF_MS // 1_000 - random.integers(0, 30 * 288, count) * 300
    engaged = random.random((count, 16)) < (random.random((count, 1)) < 0.33)
    users = authors[random.integers(0, len(authors), (count, 16))] & FP48
    rows["engagers"] = np.where(engaged, users << np.uint64(16), 0)
    return rows


def users(count: int, index: ItemIndex, random: np.random.Generator) -> BenchUsers:
    """Users with affinities, an interest, strong actions on recent items, and follows."""
    rows = np.zeros(count, USER_ROW)
    authors = index.author_fp[: index.by_author.slots.high]
    topics = index.topic_fp[: index.by_topic.slots.high]
    for row in rows:
        row["author_fp"] = random.choice(authors, 24, replace=False) & FP32
        row["topic_fp"] = random.choice(topics, 16, replace=False) & FP32
        row["ring_fp"] = random.choice(index.fp[: index.slots.high], 16)
    rows["author_pos"] = random.integers(0, 9_000, (count, 24))
    rows["topic_pos"] = random.integers(0, 9_000, (count, 16))
    rows["embedding"] = random.integers(-900, 900, (count, EMBEDDING_DIM))
    rows["engaged"] = 40
    edges = [(random.choice(authors, FOLLOWS, replace=False) & FP48) << np.uint64(16) for _ in range(count)]
    graph = [GraphRow(follows=e, follow_kinds=np.zeros(FOLLOWS, np.uint8)) for e in edges]
    return BenchUsers(np.array([fp64(b"user-%d" % n) for n in range(count)], np.uint64), rows, graph)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def timed(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def measure_updates(index: ItemIndex, records: list[ItemRecord], random: np.random.Generator) -> None:
    """Loading in slices of 1,000, single upserts, features, removals."""
    order = random.permutation(len(records))
    loads = [[records[i] for i in order[s : s + 1_000]] for s in range(0, len(order), 1_000)]
    text = sum(sys.getsizeof(r.item_id) + sys.getsizeof(r.title) for r in records) / len(records)
    before = resident_bytes()
    seconds = timed(lambda: [index.upsert(load) for load in loads])
    figure("item upsert, 1,000 at a time, any order", seconds / len(records) * 1e6, "us", 20)
    grown = resident_bytes() - before
    fps = np.array([fp64(r.item_id.encode()) for r in records], np.uint64)
    authors = index.author_fp[: index.by_author.slots.high].copy()
    rows = features(len(records), authors, random)
    starts = range(0, len(fps), 1_000)
    seconds = timed(lambda: [index.apply_derived(fps[s : s + 1_000], rows[s : s + 1_000]) for s in starts])
    figure("item features applied, 1,000 at a time", seconds / len(records) * 1e6, "us", 20)
    # features wrote to pages that were never touched before; texts were there before the index
    a_item = grown / len(records) + DERIVED.itemsize + text - 4 * EMBEDDING_DIM
    figure("item bytes, without embedding, id and title included", a_item, "bytes", 600)
    fresh = [
        ItemRecord(f"new-{i}", f"author-{i}", AS_OF_MS + i, ("topic-1", "topic-2")) for i in range(1_000)
    ]
    seconds = timed(lambda: [index.upsert([r]) for r in fresh])
    figure("item upsert, one at a time", seconds / len(fresh) * 1e6, "us")
    gone = np.array([fp64(r.item_id.encode()) for r in fresh], np.uint64)
    figure("item removal, 1,000 at a time", timed(lambda: index.remove(gone)) / len(gone) * 1e6, "us", 20)


def measure_refresh(index: ItemIndex) -> None:
    """CPU and the longest slice of one refresh."""
    for _ in range(2):
        slices, start = [], time.process_time()
        for _ in index.refreshing(2, AS_OF_MS):
            now = time.process_time()
            slices.append(now - start)
            start = now
    figure(f"refresh of {len(index)} items, CPU", sum(slices) * 1e3, "ms")
    figure(f"refresh of {len(index)} items, longest slice", max(slices) * 1e3, "ms", 10)


def queries(index: ItemIndex, everyone: BenchUsers) -> list[Query]:
    """All users in slices of 16, nothing worked out yet."""
    made = []
    for start in range(0, len(everyone.fp) - SLICE_USERS + 1, SLICE_USERS):
        part = slice(start, start + SLICE_USERS)
        some = BenchUsers(everyone.fp[part], everyone.rows[part], everyone.graph[part])
        seeds = draw_seeds(1, some.fp, ["v"] * SLICE_USERS)
        made.append(Query(some, index, VERBS, CandidateLimits(), AS_OF_MS, seeds))
    return made


def per_user_us(index: ItemIndex, everyone: BenchUsers, run: Callable[[Query], object]) -> float:
    """The best of five rounds over all slices."""

    def round_() -> float:
        asked = queries(index, everyone)
        return timed(lambda: [run(query) for query in asked])

    return min(round_() for _ in range(5)) / len(everyone.fp) * 1e6


def measure_gather(index: ItemIndex, everyone: BenchUsers) -> None:
    """Gather for all users in slices of 16, in total and by source."""
    figure("gather, per user, slices of 16", per_user_us(index, everyone, gather), "us", 60)
    found = np.concatenate([(gather(one).item >= 0).sum(axis=1) for one in queries(index, everyone)])
    figure("gather, candidates of a user, mean", float(found.mean()), "items")
    for source in FOR_YOU:
        reach, propose = CandidateLimits().sources[source.name].reach, source.propose
        cost = per_user_us(index, everyone, lambda query, p=propose, r=reach: p(query, r))  # type: ignore[misc]
        figure(f"source {source.name}, per user", cost, "us")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=320)
    asked = parser.parse_args()
    random = np.random.default_rng(1)
    index = ItemIndex()
    records = items(asked.items, random)
    measure_updates(index, records, random)
    measure_refresh(index)
    measure_gather(index, users(asked.users, index, random))


if __name__ == "__main__":
    on_one_thread("benchmarks.index")
    main()
