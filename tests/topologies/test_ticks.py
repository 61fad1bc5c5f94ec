import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.ticks import HELD_MS_MAX, TickGate, settled, tick_of


def gate(**kw: object) -> TickGate:
    return TickGate(senders=3, tick_ms=10, grace_ms=100, **kw)  # type: ignore[arg-type]


def test_a_tick_closes_when_every_watermark_has_passed_it() -> None:
    g = gate()
    g.heard(0, 25)
    g.heard(1, 40)
    assert g.closable(0) is None
    g.heard(2, 31)
    assert g.closable(0) == 2


def test_a_silent_sender_holds_a_tick_only_for_the_grace() -> None:
    g = gate()
    g.heard(0, 25)
    assert g.closable(0) is None
    assert g.closable(99) is None
    assert g.closable(100) == 2


def test_a_settled_tick_waits_for_all_that_was_asked_for_whatever_the_watermarks_say() -> None:
    g = gate(strict=5, strict_ends={0: 7, 2: 9})
    for sender in range(3):
        g.heard(sender, 99, 8)
    assert g.closable(0) == 4
    g.close(4, 0)
    assert g.closable(10_000) is None
    g.heard(2, 99, 9)
    assert g.closable(10_001) == 5


def test_a_settled_tick_is_never_closed_by_grace() -> None:
    g = gate(strict=5)
    g.heard(0, 50)
    g.heard(1, 50)
    g.closable(0)
    assert g.closable(10_000) == 4
    g.close(4, 10_000)
    assert g.closable(20_000) is None
    g.heard(2, 50)
    assert g.closable(20_001) == 5


def test_a_settled_tick_is_the_last_one_until_all_are_ranked_at_it() -> None:
    g = gate(strict=5)
    for sender in range(3):
        g.heard(sender, 93)
    assert g.closable(0) == 5  # not 9
    g.close(5, 0)
    assert g.closable(1) is None
    assert g.closable(100_000) is None  # nor by grace
    g.strict = None
    assert g.closable(100_001) == 9


def test_a_request_that_nobody_withdraws_does_not_hold_ticks_for_ever() -> None:
    g = gate(strict=5)
    for sender in range(3):
        g.heard(sender, 93)
    g.close(5, 0)
    assert g.closable(1) is None
    assert g.closable(HELD_MS_MAX) is None
    assert g.closable(HELD_MS_MAX + 1) == 9


def test_watermarks_and_ticks_only_go_forward() -> None:
    g = gate()
    for sender in range(3):
        g.heard(sender, 50)
    g.heard(0, 10)
    tick = g.closable(0)
    assert tick == 5
    g.close(tick, 0)
    with pytest.raises(ValueError, match="only go forward"):
        g.close(5, 0)


def test_state_of_another_partition_count_is_refused() -> None:
    with pytest.raises(ValueError, match="replay into a new namespace"):
        TickGate(senders=2, tick_ms=10, grace_ms=1, watermarks=[1, 2, 3])


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 10_000)), max_size=50))
def test_without_grace_the_closed_tick_never_passes_the_slowest_sender(heard: list[tuple[int, int]]) -> None:
    g = gate()
    for sender, watermark in heard:
        g.heard(sender, watermark)
        tick = g.closable(0)
        if tick is not None:
            assert tick * 10 <= min(g.watermarks)
            g.close(tick, 0)


@given(st.integers(1, 10**15), st.integers(1, 10**6))
def test_the_tick_of_a_time_ends_at_or_after_it(as_of_ms: int, tick_ms: int) -> None:
    tick = tick_of(as_of_ms, tick_ms)
    assert (tick - 1) * tick_ms < as_of_ms <= tick * tick_ms


def test_settled_needs_a_marker_from_every_partition() -> None:
    assert settled([5, 6], 5)
    assert not settled([5, 4], 5)


def test_a_backlog_closes_no_more_ticks_than_its_pace_allows_but_the_settled_one() -> None:
    g = gate(pace_ms=1_000)
    for sender in range(3):
        g.heard(sender, 50)
    tick = g.closable(0)
    assert tick == 5
    g.close(tick, 0)
    for sender in range(3):
        g.heard(sender, 90)
    assert g.closable(999) is None
    assert g.closable(1_000) == 9
    g.strict = 9
    assert g.closable(1) == 9
