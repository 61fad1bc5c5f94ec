"""Arena and write-back: keys to slots, what a checkpoint copies, what stays until RocksDB has it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.arena import Arena, ArenaFull
from models.writeback import POSITION_KEY, WriteBack

ROW = np.dtype([("value", "<i8"), ("pad", "<i8", (3,))])


def keys_of(*numbers: int) -> list[bytes]:
    return [b"k%d" % n for n in numbers]


def test_lookup_says_which_keys_are_missing() -> None:
    arena = Arena(ROW, b"u", 100)
    arena.insert(keys_of(1, 2))
    slots, missing = arena.lookup(keys_of(2, 9, 1, 9))
    assert (slots.tolist(), missing.tolist()) == ([1, -1, 0, -1], [1, 3])


def test_equal_new_keys_share_a_slot() -> None:
    assert Arena(ROW, b"u", 100).insert(keys_of(5, 6, 5)).tolist() == [0, 1, 0]


@given(
    st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 400), min_size=1, max_size=60)), max_size=25)
)
@settings(max_examples=60, deadline=None)
def test_rows_stay_with_their_keys_while_the_arena_grows_and_evicts(
    steps: list[tuple[bool, list[int]]],
) -> None:
    arena, model = Arena(ROW, b"u", 2_000), dict[bytes, int]()
    for number, (evict, numbers) in enumerate(steps):
        if evict:
            gone = [arena.ids[slot] for slot in arena.evict(len(numbers)).tolist()]
            assert (arena.lookup(gone)[0] == -1).all()
            model = {k: v for k, v in model.items() if arena.lookup([k])[0][0] >= 0}
        else:
            keys = keys_of(*numbers)
            slots = arena.insert(keys)
            arena.rows["value"][slots] = number
            model.update(dict.fromkeys(keys, number))
        held = list(model)
        slots, missing = arena.lookup(held)
        assert not missing.size
        assert len(arena) == len(model)
        assert np.unique(slots).size == len(held)
        assert arena.rows["value"][slots].tolist() == list(model.values())
        assert [arena.ids[s] for s in slots] == held


def test_a_reused_slot_starts_with_zeros() -> None:
    arena = Arena(ROW, b"u", 1)
    arena.rows["value"][arena.insert(keys_of(1))] = 7
    arena.evict(1)
    assert arena.rows["value"][arena.insert(keys_of(2))].tolist() == [0]


def test_a_cut_copies_dirty_rows_and_pins_them_until_flushed() -> None:
    arena, back = Arena(ROW, b"u", 2), WriteBack()
    slots = arena.insert(keys_of(1, 2))
    arena.rows["value"][slots] = 10
    arena.touch(slots[:1])
    arena.cut_slots(1)
    back.cut(1, rows := [row for part in arena.copies() for row in part])
    assert [(k, np.frombuffer(v, ROW)["value"][0]) for k, v in rows] == [(b"uk1", 10)]
    assert not arena.cut_slots(2).size
    arena.rows["value"][slots[0]] = 11  # dirtied again before the commit: RocksDB still gets 10
    assert arena.evict(2).tolist() == [1]
    assert not back.flush_slice(10), "not committed yet"
    back.committed(1)
    assert back.flush_slice(10) == rows
    back.flushed(rows)
    arena.flushed_through = back.flushed_through
    assert arena.evict(2).tolist() == [0]


def test_a_cut_that_is_copied_bit_by_bit_is_of_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.snapshot.COPY_ROWS", 3)
    arena, chance = Arena(ROW, b"u", 200), np.random.default_rng(1)
    arena.insert(keys_of(*range(150)))
    for number in range(1, 60):
        dirty = np.unique(chance.integers(0, 150, int(chance.integers(1, 60))))
        arena.touch(dirty)
        right = {b"uk%d" % slot: arena.rows[slot].tobytes() for slot in dirty.tolist()}
        assert arena.cut_slots(number).tolist() == dirty.tolist()
        coming, found = arena.copies(), list[tuple[bytes, bytes]]()
        for _ in range(int(chance.integers(0, 12))):
            found += next(coming, [])
            changing = chance.integers(0, 150, 5)
            arena.save(changing)
            arena.rows["value"][changing] += 1
        if number % 3:  # else what is left is copied as the next cut begins
            found += [row for part in coming for row in part]
        else:
            arena.cut_slots(number)
            arena.rows["value"] += 1
            found += [row for part in coming for row in part]
        assert dict(found) == right
        assert len(found) == len(right)


def test_an_arena_of_pinned_rows_says_so() -> None:
    arena = Arena(ROW, b"u", 2)
    arena.touch(arena.insert(keys_of(1, 2)))
    assert not arena.evict(1).size
    with pytest.raises(ArenaFull, match="checkpoint and flush"):
        arena.insert(keys_of(3))


def test_evict_spares_the_batch_in_hand_and_what_was_used_last() -> None:
    arena = Arena(ROW, b"u", 4)
    slots = arena.insert(keys_of(1, 2, 3, 4))
    arena.evict(0)
    arena.lookup(keys_of(1, 2))
    assert sorted(arena.evict(2).tolist()) == [2, 3]
    assert arena.evict(2, keep=slots[:1]).tolist() == [1]


def test_restore_puts_rows_back_and_refuses_another_layout() -> None:
    arena = Arena(ROW, b"u", 10)
    row = np.array([(5, (1, 2, 3))], ROW)
    slots = arena.restore({b"a": row.tobytes(), b"b": bytes(ROW.itemsize)})
    assert arena.rows[slots[0]] == row[0]
    with pytest.raises(ValueError, match="another version"):
        arena.restore({b"a": b"short"})


def test_flush_gives_committed_bytes_last_wins_and_the_position_last() -> None:
    back = WriteBack()
    back.cut(1, [(b"a", b"1"), (b"b", b"1"), (POSITION_KEY, b"p1")])
    back.cut(2, [(b"a", b"2"), (POSITION_KEY, b"p2")])
    back.committed(1)
    first = back.flush_slice(2)
    assert first == [(b"a", b"1"), (b"b", b"1")]
    back.committed(2)
    back.flushed(first)
    assert back.flush_slice(5) == [(POSITION_KEY, b"p1")]
    assert back.flushed_through == 0
    assert back.find(b"a") == b"2"
    back.flushed(back.flush_slice(5))
    assert back.flushed_through == 1
    assert back.flush_slice(5) == [(b"a", b"2"), (POSITION_KEY, b"p2")]
    back.flushed(back.flush_slice(5))
    assert (back.flushed_through, back.pending) == (2, 0)


def test_a_deleted_row_is_flushed_as_deleted() -> None:
    back = WriteBack()
    back.cut(1, [(b"a", None)])
    back.committed(1)
    assert back.flush_slice(5) == [(b"a", None)]
