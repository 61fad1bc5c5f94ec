"""The small index says of items what the large one says, whatever came, changed and went."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.attribute_index import AttributeIndex
from models.fingerprint import fp64, fp64s
from models.item_columns import EMBEDDING_DIM, ItemRecord
from models.item_index import ItemIndex

NAMES = [f"n{n}" for n in range(12)]


@st.composite
def items(draw: st.DrawFn) -> ItemRecord:
    embedding = draw(st.one_of(st.none(), st.integers(-127, 127)))
    return ItemRecord(
        draw(st.sampled_from(NAMES)),
        draw(st.sampled_from(NAMES)),
        draw(st.integers(0, 1 << 40)),
        tuple(draw(st.lists(st.sampled_from(NAMES), max_size=6))),
        None if embedding is None else np.full(EMBEDDING_DIM, embedding, np.int8),
        None,
        None,
    )


@given(st.lists(st.one_of(st.lists(items(), max_size=9), st.sampled_from(NAMES)), max_size=12))
def test_it_says_what_the_item_index_says(steps: list[list[ItemRecord] | str]) -> None:
    small, large = AttributeIndex(), ItemIndex(1_000)
    asked = fp64s(name.encode() for name in [*NAMES, "nobody"])
    for step in steps:
        for index in (small, large):
            if isinstance(step, str):
                index.remove(np.array([fp64(step.encode())], np.uint64))
            else:
                index.upsert(step)
        assert len(small) == len(large)
        assert ((small.lookup(asked) >= 0) == (large.lookup(asked) >= 0)).all()
        ours, theirs = small.attributes(asked), large.attributes(asked)
        for name in ("known", "author_fp32", "topic_fp32", "embedding"):
            ours_, theirs_ = getattr(ours, name), getattr(theirs, name)
            assert ours_.dtype == theirs_.dtype
            assert (ours_ == theirs_).all(), name
