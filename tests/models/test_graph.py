"""Graph rows: last by offset wins, caps drop the oldest, bytes round-trip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import graph
from models.graph import GraphRow
from models.verbs import GraphAct

steps = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from([1, 2, 3]),
        st.integers(0, 2**64 - 1) | st.integers(0, 5),
        st.integers(0, 2),
    )
)


def objects(edges: np.ndarray) -> list[int]:
    return [int(e) >> 16 for e in edges]


@given(steps)
def test_encodes_and_decodes_to_the_same(changes: list[tuple[bool, int, int, int]]) -> None:
    row = GraphRow()
    for day, (undo, act, fp, kind) in enumerate(changes):
        if undo:
            row.withdraw(GraphAct(act), fp, kind)
        else:
            row.put(GraphAct(act), fp, kind, day)
    data = row.encode()
    again = GraphRow.decode(data)
    assert again.encode() == data
    for (edges, kinds), (edges2, kinds2) in zip(row.lists(), again.lists(), strict=True):
        np.testing.assert_array_equal(edges, edges2)
        np.testing.assert_array_equal(kinds, kinds2)
    again.put(GraphAct.FOLLOW, 1, 0, 1)  # what was decoded can be changed


def test_an_author_edge_costs_eight_bytes() -> None:
    row = GraphRow()
    for fp in range(10):
        row.put(GraphAct.FOLLOW, fp, graph.KIND_AUTHOR, 1)
    assert len(row.encode()) == 12 + 80
    row.put(GraphAct.FOLLOW, 99, graph.KIND_TOPIC, 1)
    assert len(row.encode()) == 12 + 88 + 11


def test_following_again_moves_to_the_end_with_the_new_day() -> None:
    row = GraphRow()
    for fp, day in ((1, 10), (2, 10), (1, 12)):
        row.put(GraphAct.FOLLOW, fp, 0, day)
    assert row.follows.tolist() == [2 << 16 | 10, 1 << 16 | 12]


def test_the_same_object_of_another_kind_is_another_edge() -> None:
    row = GraphRow()
    row.put(GraphAct.MUTE, 5, graph.KIND_AUTHOR, 1)
    row.put(GraphAct.MUTE, 5, graph.KIND_TOPIC, 1)
    row.withdraw(GraphAct.MUTE, 5, graph.KIND_AUTHOR)
    assert row.mute_kinds.tolist() == [graph.KIND_TOPIC]


def test_the_oldest_edge_leaves_a_full_list() -> None:
    row = GraphRow()
    for fp in range(graph.BLOCKS_MAX + 3):
        row.put(GraphAct.BLOCK, fp, 0, 1)
    assert objects(row.blocks) == list(range(3, graph.BLOCKS_MAX + 3))


def test_withdrawing_what_is_not_there_changes_nothing() -> None:
    row = GraphRow()
    row.withdraw(GraphAct.FOLLOW, 5, 0)
    assert row.encode() == bytes(12)


@pytest.mark.parametrize(
    "data", [b"", bytes(11), bytes(13), b"\1" + bytes(11), bytes(3) + b"\x80" + bytes(9)]
)
def test_broken_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="replay"):
        GraphRow.decode(data)
