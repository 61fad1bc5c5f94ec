"""Keys to slots: equal to a dict, also for long keys, NUL bytes and equal fingerprints."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.fingerprint import fp64s
from models.key_slots import KeySlots

keys = st.one_of(
    st.binary(min_size=1, max_size=3),
    st.sampled_from([b"a", b"a\0", b"a\0\0", b"x" * 31, b"x" * 32, b"x" * 33, b"x" * 32 + b"y", b"x" * 128]),
)


def two_fingerprints(identifiers: Iterable[bytes]) -> np.ndarray:
    return np.array([len(i) % 2 for i in identifiers], np.uint64)


@given(st.lists(st.tuples(st.booleans(), st.lists(keys, max_size=12))), st.booleans())
@settings(max_examples=200, deadline=None)
def test_equals_a_dict(steps: list[tuple[bool, list[bytes]]], weak: bool) -> None:
    index = KeySlots(4_096, two_fingerprints if weak else fp64s)
    model: dict[bytes, int] = {}
    free: list[int] = []
    for remove, batch in steps:
        distinct = list(dict.fromkeys(batch))
        if remove:
            gone = [model.pop(key) for key in distinct if key in model]
            index.remove(np.array(gone, np.int64))
            free += gone
        else:
            fresh = [key for key in distinct if key not in model]
            reused = [free.pop() for _ in range(min(len(free), len(fresh)))]
            slots = [*reused, *range(index.top, index.top + len(fresh) - len(reused))]
            index.add(fresh, slots)
            model.update(zip(fresh, slots, strict=True))
        asked = [*batch, *model, b"never"]
        assert index.find(asked).tolist() == [model.get(key, -1) for key in asked]
        assert len(index) == len(model)
        assert sorted(index) == sorted(model)
        assert all(index[slot] == key for key, slot in model.items())
        assert index.keys_at(np.array(list(model.values()), np.int64)) == list(model)
        assert sorted(index) == sorted(model)


def test_no_keys() -> None:
    assert index_of([]).find([]).size == 0


def index_of(found: list[bytes]) -> KeySlots:
    index = KeySlots(16)
    index.add(found, list(range(len(found))))
    return index
