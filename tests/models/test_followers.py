"""Who follows an author: a set of edges, few bytes each, in whatever way it is kept."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import followers
from models.followers import CROWD_MIN, Followers

edges = st.tuples(st.booleans(), st.integers(0, 40), st.lists(st.integers(0, 3), unique=True))


@pytest.mark.parametrize("crowd_min", [1, 6, 1_000])
@given(told=st.lists(edges, max_size=60))
def test_followers_are_a_set_of_edges(crowd_min: int, told: list) -> None:  # type: ignore[type-arg]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(followers, "CROWD_MIN", crowd_min)
        index, expected = Followers(fanout_max=4), set()
    for add, slot, authors in told:
        (index.add if add else index.remove)(slot, authors)
        change = {(author, slot) for author in authors}
        expected = expected | change if add else expected - change
    assert index.edges == len(expected)
    for author in range(4):
        wanted = sorted(slot for a, slot in expected if a == author)
        found = index.of(author)
        assert (None if found is None else found.tolist()) == (wanted if len(wanted) <= 4 else None)


def test_a_crowd_that_grows_and_shrinks_loses_nobody() -> None:
    index, random = Followers(), np.random.default_rng(1)
    slots = random.permutation(5 * CROWD_MIN * 4)[: 5 * CROWD_MIN]
    for slot in slots.tolist():
        index.add(slot, [7])
        index.add(slot, [7])
    assert index.edges == slots.size
    assert index.of(7).tolist() == sorted(slots.tolist())  # type: ignore[union-attr]
    for slot in slots[: 4 * CROWD_MIN].tolist():
        index.remove(slot, [7])
        index.remove(slot, [7])
    assert index.of(7).tolist() == sorted(slots[4 * CROWD_MIN :].tolist())  # type: ignore[union-attr]
    for slot in slots.tolist():
        index.remove(slot, [7])
    assert (index.edges, index.of(7).tolist()) == (0, [])  # type: ignore[union-attr]


def test_an_edge_costs_at_most_8_bytes_with_fifty_followers_an_author() -> None:
    tracemalloc.start()
    index, random = Followers(), np.random.default_rng(1)
    authors = random.integers(0, 1 << 48, 1_000)
    before = tracemalloc.get_traced_memory()[0]
    for slot in range(1_000):
        index.add(slot, random.choice(authors, 50, replace=False).tolist())
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert used / index.edges <= 8
