"""The key index behaves like a dict from uint64 to int, at a stated size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.hash_index import CAPACITY_MIN, LOAD_PERCENT_MAX, HashIndex

BYTES_PER_KEY_MAX = 40

# few keys, so that they meet again; many of them share a home in a small table
edges = st.sampled_from([0, 1 << 63, (1 << 64) - 1])
keys = st.one_of(st.integers(0, 30), edges, st.integers(0, (1 << 64) - 1))
pairs = st.lists(st.tuples(keys, st.integers(0, 1000)), max_size=40)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["insert", "insert_one"]), pairs),
        st.tuples(st.just("delete"), st.lists(keys)),
    )
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_any_inserts_and_deletes_leave_what_a_dict_holds(steps: list[tuple[str, list]]) -> None:  # type: ignore[type-arg]
    index, expected = HashIndex(), {}
    asked = {0, 5, (1 << 64) - 1}
    for step, values in steps:
        if step == "insert":
            index.insert([k for k, _ in values], [s for _, s in values])
            expected.update(values)
        elif step == "insert_one":
            for key, slot in values:
                index.insert_one(key, slot)
            expected.update(values)
        if step != "delete":
            asked.update(k for k, _ in values)
        else:
            asked.update(values)
            assert index.delete(values) == sum(expected.pop(k, None) is not None for k in set(values))
        want = [expected.get(k, -1) for k in asked]
        assert index.get(np.array(list(asked), np.uint64)).tolist() == want
        assert [index.get_one(k) for k in asked] == want
        assert len(index) == len(expected)


def test_ten_thousand_keys_stay_within_their_bytes_and_load() -> None:
    index, random = HashIndex(), np.random.default_rng(1)
    all_keys = random.integers(0, 1 << 63, 10_000, np.uint64)
    for start in range(0, 10_000, 300):
        part = all_keys[start : start + 300]
        index.insert(part, np.arange(start, start + len(part)))
        assert index.nbytes <= max(BYTES_PER_KEY_MAX * len(index), 12 * CAPACITY_MIN)
        assert len(index) * 12 * 100 <= index.nbytes * LOAD_PERCENT_MAX
    assert index.get(all_keys).tolist() == list(range(10_000))


def test_deleted_keys_do_not_make_the_index_grow() -> None:
    index = HashIndex()
    for i in range(3_000):
        index.insert([i], [0])
        index.delete([i])
    assert len(index) == 0
    assert index.nbytes == 12 * CAPACITY_MIN


def test_a_reserved_index_takes_its_keys_without_a_rehash() -> None:
    index = HashIndex(reserve=1_000)
    before = index.nbytes
    index.insert(np.arange(1_000), np.arange(1_000))
    assert index.nbytes == before


def test_a_negative_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="outside 0"):
        HashIndex().insert([1], [-1])


def test_nothing_to_do_is_fine() -> None:
    index = HashIndex()
    index.insert([], [])
    assert index.get([]).tolist() == []
    assert index.delete([]) == 0


def test_keys_that_come_and_go_at_a_high_load_never_fill_the_arrays() -> None:
    index, random = HashIndex(), np.random.default_rng(3)
    live = random.integers(0, 1 << 63, 4_500, np.uint64)
    index.insert(live, np.arange(4_500))
    size = index.nbytes
    assert 4_500 / (size / 12) > 0.5
    for _ in range(300):
        gone, new = random.choice(4_500, 100, replace=False), random.integers(0, 1 << 63, 100, np.uint64)
        index.delete(live[gone])
        live[gone] = new
        index.insert(new, gone)
    assert index.nbytes == size
    assert index.get(live).tolist() == list(range(4_500))
