"""A small made-up world (no step): items, people and what they did, the same for the same seed.

For checking a policy, for tests and for benchmarks: everything a ranker reads, without Kafka, clock or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.columns import ActivityColumns
from models.context import UserBatch
from models.fingerprint import fp64, fp64s
from models.graph import GraphRow
from models.item_columns import EMBEDDING_DIM, ItemRecord
from models.item_index import ItemIndex
from models.items import DERIVED, ENGAGERS
from models.policy import Policy
from models.users import apply_activities, new_rows
from models.verbs import GraphAct, Role

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

AS_OF_MS = 1_700_000_000_000
DAY_MS = 86_400_000
ACTIVITIES_PER_USER = 60
TOPICS = 40


@dataclass(frozen=True, slots=True)
class SampleWorld:
    """`index`: items as of AS_OF_MS; `users`: everybody, to be ranked in slices (`users.part`)."""

    index: ItemIndex
    users: UserBatch
    as_of_ms: int = AS_OF_MS


def sample_world(
    policy: Policy, seed: int = 1, items: int = 2_000, authors: int = 150, users: int = 64, follows: int = 30
) -> SampleWorld:
    """Items with topics, embeddings, titles and statistics; users with tastes, histories and follows."""
    rng = np.random.default_rng(seed)
    index = ItemIndex(items_max=max(items, 1_000))
    tastes = rng.integers(-100, 101, (TOPICS, EMBEDDING_DIM))
    author_topic = rng.integers(0, TOPICS, authors)
    author = rng.integers(0, authors, items)
    first = np.where(rng.random(items) < 0.7, author_topic[author], rng.integers(0, TOPICS, items))
    second = rng.integers(0, TOPICS, items)
    embedding = np.clip(tastes[first] + rng.integers(-60, 61, (items, EMBEDDING_DIM)), -127, 127).astype(
        np.int8
    )
    created_ms = AS_OF_MS - (rng.random(items) ** 3 * 20 * DAY_MS).astype(np.int64)
    created_ms[11::89] = AS_OF_MS + DAY_MS // 24  # not there yet
    created_ms[13::83] = AS_OF_MS - 70 * DAY_MS  # too old for the bundled policy
    names = [f"user-{i % users}" if i % 29 == 5 else f"author-{author[i]}" for i in range(items)]
    records = [
        ItemRecord(
            f"item-{i}", names[i], int(created_ms[i]), (f"topic-{first[i]}", f"topic-{second[i]}"),
            embedding[i] if i % 10 else None, f"Title {i if i % 5 else i % 15} with word{i % 12}",
        )
        for i in range(items)
    ]  # fmt: skip
    index.upsert(records)
    fps = fp64s(r.item_id.encode() for r in records)
    ids = [b"user-%d" % u for u in range(users)]
    index.apply_derived(fps, _statistics(rng, ids, created_ms))
    index.refresh(1, AS_OF_MS)
    liked = [np.flatnonzero(np.isin(first, rng.integers(0, TOPICS, 3))) for _ in range(users)]
    rows = new_rows(users)
    history = _history(rng, policy, ids, fps, liked)
    slots = fp_slots(ids, history.keys)
    apply_activities(rows, slots, history, policy.verbs, index)
    seen, graph = _seen(rng, fps, users), _graph(rng, authors, users, follows)
    return SampleWorld(index, UserBatch.of(ids, rows, seen, graph, index, policy.verbs))


def fp_slots(ids: list[bytes], keys: list[bytes]) -> I64:
    """int64[n]: each key's place in `ids`."""
    place = {user: i for i, user in enumerate(ids)}
    return np.array([place[key] for key in keys], np.int64)


def _statistics(rng: np.random.Generator, users: list[bytes], created_ms: I64) -> NDArray[np.void]:
    """Derived records of all items: counts that grow from window to window, and some engagers."""
    count = len(created_ms)
    records = np.zeros(count, DERIVED)
    records["tick"] = 1
    shown = rng.geometric(0.004, count)
    quality = rng.beta(1.5, 20, count)
    for window, share in (("h1", 0.05), ("h24", 0.4), ("d7", 1.0)):
        exposures = (shown * share).astype(np.int64)
        records[window][:, Role.EXPOSURE] = exposures
        records[window][:, Role.WEAK] = rng.binomial(exposures, np.minimum(2 * quality, 1))
        records[window][:, Role.STRONG] = rng.binomial(exposures, quality / 2)
        records[window][:, Role.NEGATIVE] = rng.binomial(exposures, 0.004)
        records[window][:, 4] = records[window][:, Role.WEAK] * rng.integers(1, 60, count)
    place_weight = 7 + np.arange(count) * 13 % 39  # some always stand high, some always low
    records["examined"] = records["d7"][:, Role.EXPOSURE] * place_weight
    records["long"][:, Role.WEAK] = records["d7"][:, Role.WEAK].astype(np.int64) << 14
    records["long"][:, Role.STRONG] = records["d7"][:, Role.STRONG].astype(np.int64) << 14
    records["epoch"] = AS_OF_MS // (240 * DAY_MS)
    engaged = records["d7"][:, Role.STRONG] > 0
    last_s = np.minimum(created_ms // 1_000 + rng.integers(0, 2 * 86_400, count), AS_OF_MS // 1_000)
    records["first_s"] = np.where(engaged, created_ms // 1_000, 0)
    records["last_s"] = np.where(engaged, last_s, 0)
    people = fp64s([*users, *(b"author-%d" % a for a in range(150))])
    edges = (people[rng.integers(0, len(people), (count, ENGAGERS))] << np.uint64(16)) | np.uint64(19_600)
    there = np.arange(ENGAGERS) < np.minimum(records["d7"][:, Role.STRONG], ENGAGERS)[:, None]
    records["engagers"] = np.where(there, edges, np.uint64(0))
    return records


def _history(
    rng: np.random.Generator, policy: Policy, ids: list[bytes], fps: U64, liked: list[I64]
) -> ActivityColumns:
    """What users did in the last three days: mostly impressions, actions mostly on what they like. The last
    eighth of the users did nothing yet."""
    verbs = policy.verbs
    by_role = {role: [c for c, v in enumerate(verbs.verbs) if v.role is role] for role in Role}
    shares = ((Role.EXPOSURE, 0.6), (Role.WEAK, 0.25), (Role.STRONG, 0.12), (Role.NEGATIVE, 0.03))
    codes = [(c, share / len(by_role[r])) for r, share in shares for c in by_role[r]]
    old = max(1, len(ids) - len(ids) // 8)
    who = np.repeat(np.arange(old), ACTIVITIES_PER_USER)
    count = len(who)
    weights = np.array([share for _, share in codes])
    verb = rng.choice([c for c, _ in codes], count, p=weights / weights.sum())
    negative = verbs.role[verb] == Role.NEGATIVE
    tasteful = (rng.random(count) < 0.8) & ~negative
    item = np.array(
        [rng.choice(liked[u]) if t else rng.integers(len(fps)) for u, t in zip(who, tasteful, strict=True)]
    )
    event_ms = np.sort(AS_OF_MS - rng.integers(1, 3 * DAY_MS, count))
    none = np.zeros(count, np.int64)
    return ActivityColumns(
        keys=[ids[u] for u in who.tolist()],
        offset=np.arange(count),
        record_ms=event_ms,
        event_ms=event_ms,
        activity_fp=np.arange(1, count + 1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15),
        object_fp=fps[item],
        verb=verb.astype(np.int16),
        target=none.astype(np.int8),
        dwell_ms=none,
        position=np.full(count, -1, np.int16),
        slate_fp=none.astype(np.uint64),
        undone_verb=np.full(count, -1, np.int16),
        undone_ms=none,
    )


def _seen(rng: np.random.Generator, fps: U64, users: int) -> list[U64]:
    entries = []
    for _ in range(users):
        chosen = fps[rng.choice(len(fps), min(100, len(fps)), replace=False)] << np.uint64(32)
        day = AS_OF_MS // DAY_MS - rng.integers(0, 4, len(chosen))
        entries.append(chosen | (day << 16 | rng.integers(1, 5, len(chosen))).astype(np.uint64))
    entries[-1] = entries[-1][:0]
    return entries


def _graph(rng: np.random.Generator, authors: int, users: int, follows: int) -> list[GraphRow]:
    rows = []
    for user in range(users):
        row = GraphRow()
        if user < users - users // 8:
            for a in rng.choice(authors, min(follows, authors), replace=False).tolist():
                row.put(GraphAct.FOLLOW, fp64(b"author-%d" % a), 0, 19_000)
            row.put(GraphAct.FOLLOW, fp64(b"user-%d" % user), 0, 19_000)
            row.put(GraphAct.FOLLOW, fp64(b"topic-%d" % rng.integers(TOPICS)), 1, 19_000)
            row.put(GraphAct.MUTE, fp64(b"author-%d" % rng.integers(authors)), 0, 19_000)
            row.put(GraphAct.BLOCK, fp64(b"topic-%d" % rng.integers(TOPICS)), 1, 19_000)
        if user % 8 == 3:
            act = GraphAct.MUTE if user % 16 == 3 else GraphAct.BLOCK
            row.put(act, fp64(b"word%d" % (user % 12)), 2, 19_000)
        rows.append(row)
    return rows
