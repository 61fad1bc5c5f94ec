"""Who is due: most valuable first, within the budget, coalesced, and no act of a user lost silently."""

from __future__ import annotations

import doctest
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from models import due
from models.due import OWN, DueQueue, Reason, value_of

NOW_MS = 1_000_000_000

marks = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.sampled_from([*Reason, Reason.VISIT | Reason.NEW_ITEM]),
        st.integers(0, 5_000_000),
        st.integers(0, 3),
    ),
    max_size=60,
)


@dataclass
class Waiting:
    reasons: Reason
    active_ms: int
    value: int
    entered: int

    @property
    def order(self) -> tuple[int, bool, int]:
        return -due._level(self.value), not self.reasons & OWN, self.entered


@settings(max_examples=200, deadline=None)
@given(marks, st.integers(1, 8))
def test_the_queue_is_a_plain_list_sorted_by_level(told: list, users_max: int) -> None:  # type: ignore[type-arg]
    """Marks and pops against a model that sorts a list."""
    queue: DueQueue[int] = DueQueue(users_max, per_s=1_000, burst=1_000)
    model: dict[int, Waiting] = {}
    refused = displaced = 0
    for step, (user, reasons, idle_ms, pops) in enumerate(told):
        now_ms = NOW_MS + step * 1_000
        taken = queue.mark(user, reasons, now_ms, now_ms - idle_ms)
        if user in model:
            held = model[user]
            before = held.order[:2]
            held.reasons |= reasons
            held.active_ms = max(held.active_ms, now_ms - idle_ms)
            held.value = max(held.value, value_of(held.reasons, now_ms - held.active_ms))
            if held.order[:2] != before:
                held.entered = step
        else:
            new = Waiting(reasons, now_ms - idle_ms, value_of(reasons, idle_ms), step)
            lowest = max(
                (u for u in model if not model[u].reasons & OWN), key=lambda u: model[u].order, default=None
            )
            if len(model) < users_max:
                model[user] = new
            elif lowest is not None and (reasons & OWN or new.order[:2] < model[lowest].order[:2]):
                del model[lowest]
                model[user] = new
                displaced += 1
            else:
                refused += 1
        assert taken == (user in model)
        expected = sorted(model, key=lambda u: model[u].order)[:pops]
        assert [d.user for d in queue.pop(pops, now_ms)] == expected
        for u in expected:
            del model[u]
        assert (len(queue), queue.refused, queue.displaced) == (len(model), refused, displaced)


def test_a_visit_is_never_displaced_and_a_refused_one_is_said() -> None:
    queue: DueQueue[int] = DueQueue(users_max=2)
    assert queue.mark(1, Reason.VISIT, NOW_MS, 0)
    assert queue.mark(2, Reason.STALE, NOW_MS, NOW_MS)
    assert queue.mark(3, Reason.EXPLICIT, NOW_MS, 0)
    assert not queue.mark(4, Reason.VISIT, NOW_MS, NOW_MS)
    assert (queue.refused, queue.refused_own, queue.displaced) == (1, 1, 1)
    assert {d.user for d in queue.pop(9, NOW_MS)} == {1, 3}


def test_whoever_acts_now_does_not_wait_behind_a_partition_of_missing_feeds() -> None:
    queue: DueQueue[int] = DueQueue(per_s=1, burst=3)
    for user in range(1_000):
        queue.mark(user, Reason.MISSING, NOW_MS, NOW_MS)
    for user, reason in ((2_000, Reason.VISIT), (2_001, Reason.EXPLICIT), (2_002, Reason.NEGATIVE)):
        queue.mark(user, reason, NOW_MS, NOW_MS)
    assert {due.user for due in queue.pop(3, NOW_MS)} == {2_000, 2_001, 2_002}


def test_marks_of_one_user_become_one() -> None:
    queue: DueQueue[bytes] = DueQueue()
    for reason in (Reason.NEW_ITEM, Reason.VISIT, Reason.NEW_ITEM):
        queue.mark(b"ann", reason, NOW_MS, NOW_MS)
    (one,) = queue.pop(9, NOW_MS)
    assert (one.user, one.reasons, one.since_ms) == (b"ann", Reason.NEW_ITEM | Reason.VISIT, NOW_MS)
    assert one.value == 1_024 * (64 + 768)
    assert queue.coalesced == 2
    assert not len(queue)


def test_the_budget_holds_for_any_second_and_comes_back_with_time() -> None:
    queue: DueQueue[int] = DueQueue(per_s=100, burst=20)
    for user in range(500):
        queue.mark(user, Reason.STALE, NOW_MS, 0)
    popped = [len(queue.pop(1_000, NOW_MS + ms)) for ms in range(0, 1_000, 10)]
    assert popped == [20] + [1] * 99
    assert len(queue.pop(1_000, NOW_MS + 60_000)) == 20
    assert queue.pop(1_000, NOW_MS) == []
    assert queue.pop(1_000, NOW_MS + 60_000) == []


def test_a_discarded_user_is_not_due() -> None:
    queue: DueQueue[int] = DueQueue()
    queue.mark(1, Reason.VISIT, NOW_MS, NOW_MS)
    queue.discard(1)
    queue.discard(2)
    assert queue.pop(9, NOW_MS) == []


def test_the_examples_in_the_module_are_right() -> None:
    assert doctest.testmod(due).failed == 0


def test_a_value_never_falls_while_a_user_waits() -> None:
    queue: DueQueue[int] = DueQueue()
    queue.mark(1, Reason.VISIT, NOW_MS, NOW_MS)
    queue.mark(2, Reason.VISIT, NOW_MS, NOW_MS - 60_000)
    queue.mark(1, Reason.STALE, NOW_MS + 86_400_000, NOW_MS)
    assert [d.user for d in queue.pop(2, NOW_MS + 86_400_000)] == [1, 2]


def test_own_tells_whether_someone_who_acted_waits() -> None:
    queue: DueQueue[int] = DueQueue()
    queue.mark(1, Reason.MISSING | Reason.STALE, 0, 0)
    assert not queue.own
    queue.mark(2, Reason.VISIT, 0, -(10**9))
    assert queue.own
    queue.discard(2)
    assert not queue.own
    queue.mark(1, Reason.NEGATIVE, 0, 0)
    assert queue.own
    queue.pop(2, 0)
    assert not queue.own
