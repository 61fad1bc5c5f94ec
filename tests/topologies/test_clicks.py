"""Clicks under the source of what was shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from models.candidates import SOURCE_NAMES
from models.fingerprint import fp64
from models.verbs import Role
from tests.topologies.streams_of import VERBS, Durable, activities, item_index, make_resident, shard
from topologies.clicks import NOT_KNOWN, ShownSources


def test_what_was_shown_is_found_until_others_take_its_place() -> None:
    shown, rng = ShownSources(places_bits=10), np.random.default_rng(3)
    items = rng.integers(0, 1 << 63, 100).astype(np.uint64)
    shown.put(1, items, np.arange(100) % 7)
    found = shown.get(np.full(100, 1, np.uint64), items)
    known = found >= 0
    assert known.mean() > 0.9
    assert (found[known] == (np.arange(100) % 7)[known]).all()
    assert (shown.get(np.full(100, 2, np.uint64), items) == -1).all()
    for user in range(2, 200):
        shown.put(user, rng.integers(0, 1 << 63, 100).astype(np.uint64), np.zeros(100, np.int64))
    assert (shown.get(np.full(100, 1, np.uint64), items) >= 0).mean() < 0.05


def test_acts_that_name_a_slate_count_once_under_the_source_of_what_was_shown() -> None:
    state, shown = shard(item_index()), ShownSources(places_bits=22)
    n = 2_000
    columns = activities(n, users=30, seed=5)
    slates = np.random.default_rng(1).integers(0, 2, n).astype(np.uint64)
    columns = replace(columns, slate_fp=slates)
    for user in range(20):
        items = np.array([fp64(b"item-%d" % item) for item in range(25)], np.uint64)
        shown.put(fp64(b"user-%d" % user), items, np.full(25, user % len(SOURCE_NAMES)))
    make_resident(state, columns.keys, Durable())
    slots, _ = state.rows.locate(columns.keys)
    applied, _ = state.apply(columns, state.plan(columns, slots), [], n)

    expected: Counter[str] = Counter()
    seen = {fp64(b"item-%d" % item) for item in range(25)}
    for i, key in enumerate(columns.keys):
        acts = VERBS.role[columns.verb[i]] in (Role.WEAK, Role.STRONG) and bool(slates[i])
        if acts and not applied.duplicate[i]:
            user = int(key.removeprefix(b"user-"))
            known = user < 20 and int(columns.object_fp[i]) in seen
            expected[SOURCE_NAMES[user % len(SOURCE_NAMES)] if known else NOT_KNOWN] += 1
    assert len(expected) > 3
    assert shown.clicked(columns, applied, state.rows.arena.fp) == expected
