import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.arena import ArenaFull
from models.item_deltas import decode
from tests.topologies.streams_of import (
    Durable,
    activities,
    checkpoint,
    feed,
    flush,
    item_index,
    make_resident,
    shard,
)
from topologies.user_shard import ROW_FORMAT

INDEX = item_index()


def in_one_go(stream: object, n: int) -> Durable:
    durable, state = Durable(), shard(INDEX)
    feed(state, stream, durable)  # type: ignore[arg-type]
    checkpoint(state, durable)
    assert durable.position == n
    return durable


def summed(messages: list[bytes]) -> dict[tuple[int, int, int], int]:
    """Item deltas by (item, bucket, column), whatever messages they came in."""
    total: dict[tuple[int, int, int], int] = {}
    for message in messages:
        one = decode(message)
        for fp, bucket, column, count in zip(one.cell_fp, one.bucket, one.column, one.count, strict=True):
            key = (int(fp), int(bucket), int(column))
            total[key] = total.get(key, 0) + int(count)
    return {key: count for key, count in total.items() if count}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    plan=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5)), min_size=1, max_size=40),
)
@example(seed=341, plan=[(1, 1), (1, 4)])
@example(seed=0, plan=[(1, 4), (4, 1)])
def test_crashes_cuts_evictions_and_restarts_change_no_byte(seed: int, plan: list[tuple[int, int]]) -> None:
    n = 240
    stream = activities(n, users=50, seed=seed)
    expected = in_one_go(stream, n)
    durable = Durable()
    state = shard(INDEX, rows_max=64)
    at, steps = 0, iter(plan * (n // len(plan) + 1))
    while durable.position < n:
        size, event = next(steps, (50, 1))
        if at < n:
            part = stream.cut(at, min(n, at + size))
            try:
                feed(state, part, durable)
                at += len(part)
            except ArenaFull:
                checkpoint(state, durable)
                flush(state, durable, 10_000)
        if event in (1, 2) or at == n:
            checkpoint(state, durable)
        if event in (2, 3):
            flush(state, durable, size)
        if event == 4:
            state = shard(INDEX, rows_max=64, resident=False)  # a crash: memory is gone
            state.restore(list(durable.changelog.items()))
            at = state.position
    assert durable.rows() == expected.rows()
    assert summed(durable.deltas) == summed(expected.deltas)


def test_the_ledger_accounts_for_every_record() -> None:
    stream = activities(500, users=20, seed=3)
    state, durable = shard(INDEX), Durable()
    feed(state, stream, durable)
    ledger = state.ledger
    assert ledger.duplicates > 0
    assert ledger.withdrawn > 0
    assert ledger.applied + ledger.duplicates + ledger.withdrawn + ledger.dead == len(stream)


def test_the_ledger_and_the_watermark_survive_a_restart() -> None:
    state, durable = shard(INDEX), Durable()
    feed(state, activities(100, users=5, seed=4), durable)
    state.watermark_ms = state.stream_ms
    checkpoint(state, durable)
    again = shard(INDEX, resident=False)
    again.restore(list(durable.changelog.items()))
    assert (again.position, again.ledger, again.watermark_ms) == (100, state.ledger, state.watermark_ms)


def test_rows_of_another_format_are_refused() -> None:
    state, durable = shard(INDEX), Durable()
    feed(state, activities(10, users=2, seed=5), durable)
    checkpoint(state, durable)
    record = (durable.changelog[b"!position"] or b"").replace(
        b'"row_format":%d' % ROW_FORMAT, b'"row_format":99'
    )
    with pytest.raises(ValueError, match="replay into a new namespace"):
        shard(INDEX, resident=False).restore([(b"!position", record)])


def test_nothing_new_makes_no_checkpoint_until_a_tick_of_watermark() -> None:
    state, durable = shard(INDEX), Durable()
    feed(state, activities(10, users=2, seed=6), durable)
    checkpoint(state, durable)
    assert state.cut(1).nothing
    state.watermark_ms += 5 * state.tick_ms
    cut = state.cut(1)
    assert [m.partition for m in cut.messages] == [0, 1, 2, 3]
    assert decode(cut.messages[0].value or b"").watermark_ms == state.watermark_ms


def test_a_like_makes_its_user_due_once_and_a_follow_says_the_graph_changed() -> None:
    stream = activities(300, users=10, seed=7)
    state, durable = shard(INDEX), Durable()
    make_resident(state, stream.keys, durable)
    applied, signals = state.apply(stream, state.plan(stream), [], 300)
    likes = {
        stream.keys[i] for i in np.flatnonzero(np.isin(stream.verb, (2, 3, 4)) & ~applied.duplicate).tolist()
    }
    assert sorted(state.rows.arena.ids[s] or b"" for s in signals.slots.tolist()) == sorted(likes)
    assert signals.graph
