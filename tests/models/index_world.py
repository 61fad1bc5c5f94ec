"""Small worlds of items, told as steps, and what an item index must hold after them: for several tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from models.fingerprint import fp64
from models.item_columns import ItemRecord
from models.item_index import ItemIndex
from models.items import DERIVED

AS_OF_MS = 1_700_000_000_000
DAY_MS = 86_400_000


def user_fp(n: int) -> int:
    return fp64(b"user-%d" % n)


def record(n: int, seed: int) -> ItemRecord:
    """Item n; its other fields follow from `seed`."""
    random = np.random.default_rng(seed)
    topics = tuple(f"topic-{t}" for t in random.integers(0, 6, random.integers(0, 6)))
    embedding = random.integers(-127, 128, 64).astype(np.int8) if random.random() < 0.8 else None
    created_ms = AS_OF_MS - int(random.integers(0, 40)) * 3_600_000
    return ItemRecord(
        f"item-{n}", f"author-{random.integers(0, 4)}", created_ms, topics, embedding, f"Title {n}"
    )


def derived(seed: int, tick: int) -> np.ndarray:  # type: ignore[type-arg]
    """DERIVED[1]: counts and engagers (users 0 to 11) that follow from `seed`."""
    random = np.random.default_rng(seed)
    row = np.zeros(1, DERIVED)
    row["tick"] = tick
    row["h1"] = random.integers(-1, 6, 5)
    row["h24"] = row["h1"] + random.integers(0, 20, 5)
    row["d7"] = row["h24"] + random.integers(0, 90, 5)
    row["examined"] = int(row["d7"][0, 0]) * int(random.integers(7, 46))
    row["last_s"] = AS_OF_MS // 1_000 - random.integers(0, 9) * 300
    users = random.permutation(12)[: random.integers(0, 9)]
    row["engagers"][0, : len(users)] = [(user_fp(u) & ((1 << 48) - 1)) << 16 | 19_000 for u in users]
    return row


@dataclass
class World:
    """What an index must hold: item number -> record, and item number -> derived."""

    items: dict[int, ItemRecord] = field(default_factory=dict)
    derived: dict[int, np.ndarray] = field(default_factory=dict)  # type: ignore[type-arg]

    def index(self, order: Iterable[int] | None = None, items_max: int = 1_000) -> ItemIndex:
        """An index made from it in one pass, in any order."""
        index = ItemIndex(items_max)
        for n in sorted(self.items) if order is None else order:
            index.upsert([self.items[n]])
        for n, row in self.derived.items():
            index.apply_derived(fps(n), row)
        index.refresh(1, AS_OF_MS)
        return index


def fps(*items: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([fp64(b"item-%d" % n) for n in items], np.uint64)


numbers = st.integers(0, 30)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), st.lists(st.tuples(numbers, st.integers(0, 500)), max_size=8)),
        st.tuples(st.just("derive"), st.lists(st.tuples(numbers, st.integers(0, 500)), max_size=8)),
        st.tuples(st.just("remove"), st.lists(numbers, max_size=6)),
        st.tuples(st.just("forget"), st.lists(numbers, max_size=3)),
        st.tuples(st.just("refresh"), st.just([])),
    ),
    max_size=25,
)


def play(told: list, index: ItemIndex) -> World:  # type: ignore[type-arg]
    """Do the steps to the index, and to a plain world."""
    world = World()
    for tick, (step, values) in enumerate(told, 1):
        if step == "upsert":
            records = [(n, record(n, seed)) for n, seed in values]
            world.items.update(records)
            index.upsert([r for _, r in records])
        elif step == "derive":
            rows = {n: derived(seed, tick) for n, seed in values}
            world.derived.update(rows)
            if rows:
                index.apply_derived(fps(*rows), np.concatenate(list(rows.values())))
        elif step == "remove":
            index.remove(fps(*values))
            for n in values:
                world.items.pop(n, None)
        elif step == "forget":
            index.remove_derived(fps(*values))
            for n in values:
                world.derived.pop(n, None)
        else:
            index.refresh(tick, AS_OF_MS)
    index.refresh(1, AS_OF_MS)
    return world
