"""Item shards: what is published when, what survives restarts and evictions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.arena import ArenaFull
from models.item_deltas import Deltas
from models.items import DERIVED
from streams.dead_letters import DeadLetter, Reason
from streams.durable import POSITION_KEY, Cut, Row
from streams.errors import ExitCode, OperatorError
from topologies import item_shard
from topologies.item_keys import fps_of, keys_of
from topologies.item_shard import MARKER_KEY, ItemShard
from topologies.ticks import TickGate
from wire.names import Namespace

TICK_MS, DAY_MS, BUCKET_MS = 10_000, 86_400_000, 300_000
T0 = 1_700_006_400_000  # a whole day


NAMES = Namespace("test")


def shard(rows_max: int = 1_000, resident: bool = True, live: Iterable[int] = ()) -> ItemShard:
    alive = np.array(list(live), np.uint64)
    gate = TickGate(1, TICK_MS, grace_ms=0)
    made = ItemShard(NAMES, 0, gate, rows_max, live=lambda fps: np.isin(fps, alive))
    made.resident = resident
    return made


def deltas(
    items: dict[int, int], at_ms: int = T0, watermark_ms: int = 0, engagers: dict[int, int] | None = None
) -> Deltas:
    """Counts of column 1 by item, all at one time; `engagers`: users by item."""
    who = engagers or {}
    return Deltas(
        0,
        watermark_ms,
        0,
        np.array(list(items), np.uint64),
        np.full(len(items), at_ms // BUCKET_MS, np.int32),
        np.array(list(items.values()), np.int32),
        np.ones(len(items), np.int8),
        np.array(list(who), np.uint64),
        np.array([user << 1 for user in who.values()], np.uint64),
        np.full(len(who), at_ms // 1_000, np.uint32),
    )


class Disk:
    """RocksDB and changelog of a shard."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes | None] = {}
        self.rocks: dict[bytes, bytes | None] = {}
        self.published: list[tuple[bytes, bytes]] = []

    def commit(self, state: ItemShard, flush: bool = True) -> Cut:
        cut = state.cut(1)
        self.rows.update(cut.rows)
        published = [m for m in cut.messages if m.topic == NAMES.item_features]
        self.published += [(m.key or b"", m.value or b"") for m in published]
        marked = [(m.key, m.value) for m in cut.messages if m.topic == NAMES.served]
        assert marked == [(m.key, m.value) for m in published if m.key == MARKER_KEY]
        state.committed(cut)
        while flush and (rows := state.flush_slice(1_000)):
            self.rocks.update(rows)
            state.flushed(rows)
        return cut

    def feed(self, state: ItemShard, one: Deltas, dead_leave: bool = False) -> None:
        wanted = state.absent([one], dead_leave)
        state.load({key: value for key in wanted if (value := self.rocks.get(key)) is not None})
        state.apply([one], state.position + 1)

    def restart(self, rows_max: int = 1_000, live: Iterable[int] = ()) -> ItemShard:
        """As `Worker` does: rows of the changelog, then all that is stored is looked through."""
        state = shard(rows_max, live=live)
        state.restore(list(self.rows.items()))
        stored: list[Row] = [(key, value) for key, value in self.rows.items() if key != POSITION_KEY]
        state.wake(stored)
        return state

    def tick(self, state: ItemShard, at_ms: int, now_ms: int = 0) -> dict[int, np.void]:
        """Close the tick that ends at `at_ms`; what it publishes, by item."""
        before = len(self.published)
        state.gate.heard(0, at_ms)
        while state.close_tick(now_ms) is None:
            assert state.publishes
            self.commit(state)
        self.commit(state)
        *records, (key, marker) = self.published[before:]
        assert key == MARKER_KEY
        assert orjson.loads(marker) == {
            "tick": at_ms // TICK_MS,
            "as_of_ms": at_ms,
            "positions": [state.gate.positions[0]],
            "item_partition": 0,
        }
        return found(records)

    def known(self) -> dict[int, np.void]:
        """What readers have: the last record of each item, without its tick."""
        return found((key, value) for key, value in self.published if key != MARKER_KEY)


def found(records: Iterable[tuple[bytes, bytes]]) -> dict[int, np.void]:
    return {int(fps_of([key])[0]): np.frombuffer(value, DERIVED)[0] for key, value in records}


def counts(record: np.void) -> tuple[int, int, int]:
    return int(record["h1"][1]), int(record["h24"][1]), int(record["d7"][1])


def test_a_record_is_published_when_its_value_changed_or_a_bucket_expired() -> None:
    disk, state = Disk(), shard()
    disk.feed(state, deltas({1: 3, 2: 1}))
    assert {fp: counts(r) for fp, r in disk.tick(state, T0 + TICK_MS).items()} == {1: (3, 3, 3), 2: (1, 1, 1)}
    assert disk.tick(state, T0 + 2 * TICK_MS) == {}
    disk.feed(state, deltas({2: 1}, T0 + 1_200_000))
    assert disk.tick(state, T0 + 1_300_000).keys() == {2}
    hour = disk.tick(state, T0 + 3_600_000)
    assert {fp: counts(r) for fp, r in hour.items()} == {1: (0, 3, 3), 2: (1, 2, 2)}
    assert disk.tick(state, T0 + 3_600_000 + 1_200_000).keys() == {2}
    assert disk.tick(state, T0 + DAY_MS).keys() == {1, 2}
    assert disk.tick(state, T0 + 6 * DAY_MS).keys() == {2} - {2}
    assert {counts(r) for r in disk.tick(state, T0 + 7 * DAY_MS).values()} == {(0, 0, 0)}
    assert disk.tick(state, T0 + 30 * DAY_MS) == {}


def test_a_marker_comes_after_all_records_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_shard, "PUBLISH_RECORDS_MAX", 3)
    disk, state = Disk(), shard()
    disk.feed(state, deltas(dict.fromkeys(range(1, 9), 1)))
    state.gate.heard(0, T0 + TICK_MS)
    assert state.close_tick(0) is None
    assert state.close_tick(0) is None, "the first part is not committed yet"
    assert len(disk.commit(state).messages) == 3
    assert state.gate.closed == -1
    disk.feed(state, deltas({1: 1, 8: 1}))  # in between: the marker will say that they are of the next
    records = disk.tick(state, T0 + TICK_MS)
    assert records.keys() == {4, 5, 6, 7, 8}
    assert counts(records[8]) == (1, 1, 1)
    assert {counts(disk.known()[fp]) for fp in (1, 8)} == {(1, 1, 1)}
    assert disk.tick(state, T0 + 2 * TICK_MS).keys() == {1, 8}


def test_nothing_is_published_while_a_checkpoint_is_awaited() -> None:
    disk, state = Disk(), shard()
    disk.tick(state, T0)
    state.gate.heard(0, T0 + TICK_MS)
    assert state.close_tick(0) == T0 // TICK_MS + 1
    state.gate.heard(0, T0 + 2 * TICK_MS)
    assert state.close_tick(0) is None
    disk.commit(state)
    assert state.close_tick(0) == T0 // TICK_MS + 2


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("delta"), st.integers(1, 6), st.integers(-20 * DAY_MS, 0)),
            st.tuples(st.just("engager"), st.integers(1, 6), st.integers(-20 * DAY_MS, 0)),
            st.tuples(
                st.sampled_from(["tick", "commit", "crash"]), st.integers(1, 6), st.integers(0, 2 * DAY_MS)
            ),
        ),
        min_size=5,
        max_size=40,
    )
)
def test_after_restarts_readers_know_the_same(steps: list[tuple[str, int, int]]) -> None:
    """A crash loses what is not committed: it is delivered again. At the end, both publish what is new."""
    calm, broken = Disk(), Disk()
    one, other = shard(), shard()
    again: list[Deltas] = []
    now_ms = T0 + DAY_MS
    for step, item, ms in steps:
        if step == "tick":
            now_ms += (ms // TICK_MS + 1) * TICK_MS
            calm.tick(one, now_ms)
            broken.tick(other, now_ms)
            again = []
        elif step in ("delta", "engager"):
            late = deltas({item: 1}, now_ms + ms, engagers={item: 7} if step == "engager" else None)
            calm.feed(one, late)
            broken.feed(other, late)
            again.append(late)
        elif step == "commit":
            broken.commit(other, flush=item % 2 == 0)
            again = []
        else:
            other = broken.restart()
            for late in again:
                broken.feed(other, late)
    end_ms = now_ms + TICK_MS
    calm.tick(one, end_ms)
    broken.tick(other, end_ms)
    assert without_ticks(broken.known()) == without_ticks(calm.known())
    assert {k: v for k, v in broken.rows.items() if k != POSITION_KEY} == {
        k: v for k, v in calm.rows.items() if k != POSITION_KEY
    }


def without_ticks(records: dict[int, np.void]) -> dict[int, bytes]:
    return {fp: record.tobytes()[8:] for fp, record in records.items()}


def test_a_restart_wakes_only_rows_that_still_change() -> None:
    disk, state = Disk(), shard()
    disk.feed(state, deltas({1: 1}, T0))
    disk.feed(state, deltas({2: 1}, T0 + 9 * DAY_MS))
    disk.tick(state, T0 + 10 * DAY_MS)
    again = disk.restart()
    assert list(again.arena.ids) == keys_of(np.array([2], np.uint64))
    disk.feed(again, deltas({1: 1}, T0 - DAY_MS))
    disk.commit(again)
    third = disk.restart()  # before the tick: what the late delta changed is out already
    assert len(third.arena) == 1
    assert disk.known()[1]["first_s"] == (T0 - DAY_MS) // 1_000


def test_eviction_loses_no_expiry_of_a_live_item_and_publishes_no_zeros_for_others() -> None:
    disk, state = Disk(), shard(rows_max=16, live=range(1, 13))
    disk.feed(state, deltas({n: n for n in range(1, 17)}))
    disk.tick(state, T0 + TICK_MS)
    with pytest.raises(ArenaFull):
        state.absent([deltas({17: 1})])
    disk.feed(state, deltas({17: 1}), dead_leave=True)
    assert len(state.arena) == 15
    assert {fp: counts(r) for fp, r in disk.tick(state, T0 + 2 * TICK_MS).items()} == {17: (1, 1, 1)}
    expired = disk.tick(state, T0 + 3_600_000)
    assert {*range(1, 13), 17} <= expired.keys()
    assert all(counts(record)[1] > 0 for record in expired.values())


def test_rows_that_do_not_move_leave_first_and_come_back_whole() -> None:
    disk, state = Disk(), shard(rows_max=8)
    disk.feed(state, deltas({n: n for n in range(1, 9)}))
    disk.tick(state, T0 + 8 * DAY_MS)
    disk.feed(state, deltas(dict.fromkeys(range(9, 14), 1), T0 + 8 * DAY_MS))
    disk.tick(state, T0 + 8 * DAY_MS + TICK_MS)
    disk.feed(state, deltas({2: 5}, T0 + 8 * DAY_MS))
    row = state.arena.rows[state.arena.lookup(keys_of(np.array([2], np.uint64)))[0][0]]
    assert row["long"].sum() > 0
    assert row["first_s"] == T0 // 1_000
    assert disk.tick(state, T0 + 8 * DAY_MS + 2 * TICK_MS).keys() == {2}


def test_more_moving_items_than_memory_at_start_say_what_to_do() -> None:
    disk, state = Disk(), shard()
    disk.feed(state, deltas(dict.fromkeys(range(1, 9), 1)))
    disk.commit(state)
    with pytest.raises(OperatorError, match="raise ITEMS_LIVE_MAX") as failed:
        disk.restart(rows_max=4)
    assert failed.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("message", [b"", b"FRD0" + bytes(20), b"FRD1" + bytes(21), b"FRD2" + bytes(21)])
def test_a_message_of_somebody_else_ends_the_worker_with_advice(message: bytes) -> None:
    with pytest.raises(OperatorError, match="rebuild into a new namespace") as failed:
        shard().decode([message])
    assert failed.value.exit_code == ExitCode.TOPICS_WRONG


def test_a_sender_beyond_the_partitions_is_refused() -> None:
    message = b"FRD2" + (3).to_bytes(4, "little") + bytes(24)
    with pytest.raises(OperatorError, match="have 1 partitions, not 4"):
        shard().decode([message])


def test_another_tick_length_is_refused() -> None:
    disk, state = Disk(), shard()
    disk.feed(state, deltas({1: 1}))
    disk.commit(state)
    position = (disk.rows[POSITION_KEY] or b"").replace(b'"tick_ms":10000', b'"tick_ms":60000')
    with pytest.raises(ValueError, match="set TICK_S back"):
        shard().restore([(POSITION_KEY, position)])


def letter(offset: int) -> DeadLetter:
    return DeadLetter("items", 0, offset, 0, b"k", b"v", Reason.NOT_JSON, "no item")


def test_a_bad_item_is_set_aside_once_by_whichever_owner_reads_it() -> None:
    disk, state = Disk(), shard()
    state.set_aside(0, [letter(1), letter(4)], 5)
    state.set_aside(0, [letter(1), letter(4)], 5)
    assert len(disk.commit(state).messages) == 2
    state.set_aside(0, [letter(1), letter(4), letter(7)], 8)
    lost = disk.restart()  # the third is not committed
    assert lost.items_next == {0: 5}
    lost.set_aside(0, [letter(1), letter(4)], 5)
    lost.set_aside(0, [letter(1), letter(4), letter(7)], 8)
    cut = disk.commit(lost)
    assert [dict(m.headers)["__connect.errors.offset"] for m in cut.messages] == [b"7"]


def test_an_idle_shard_commits_nothing() -> None:
    disk, state = Disk(), shard()
    disk.feed(state, deltas({1: 1}))
    disk.commit(state)
    assert state.cut(1).nothing


def test_state_of_an_older_version_is_refused_with_what_to_do() -> None:
    state = shard()
    state.apply([deltas({1: 1})], 5)
    [record] = [value for key, value in state.cut(1).rows if key == POSITION_KEY]
    older = orjson.loads(record or b"") | {"row_format": 1}
    del older["tick_ms"]  # as it was then
    with pytest.raises(ValueError, match=r"format 1, this version writes 3.*replay into a new namespace"):
        shard(resident=False).restore([(POSITION_KEY, orjson.dumps(older))])
