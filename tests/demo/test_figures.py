"""The demo's arithmetic: pace, click-through with intervals, ledger, the worker's numbers over its lives."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.click_through import ClickThrough, Rate
from demo.ledger import Account, Ledger
from demo.pace import DEBT_S_MAX, Pace
from demo.traffic import Sent
from demo.worker_metrics import WorkerNumbers, parse
from streams.metrics import Metrics


@given(st.floats(0.1, 500), st.lists(st.floats(0.0, 0.9), min_size=1, max_size=60))
def test_pace_neither_loses_nor_adds_turns_while_it_is_asked_often(per_s: float, pauses: list[float]) -> None:
    pace, now_s, taken = Pace(per_s, 100.0), 100.0, 0
    for pause in pauses:
        now_s += pause
        taken += pace.due(now_s)
    assert abs(taken - (now_s - 100.0) * per_s) < 1 + 1e-6


def test_pace_forgives_what_was_missed_for_longer_than_a_second() -> None:
    pace = Pace(50.0, 0.0)
    assert pace.due(30.0) == 50 * DEBT_S_MAX + 1
    assert pace.due(30.1) in (4, 5)


def test_difference_of_two_rates_is_as_newcombe_published_it() -> None:
    """Method 10, contrast (a) of the paper's table II: 56/70 - 48/80."""
    difference, low, high = Rate(70, 56).minus(Rate(80, 48))
    assert (round(difference, 4), round(low, 4), round(high, 4)) == (0.2, 0.0524, 0.3339)


def groups_drawn(rng: np.random.Generator, spread: float, people: int = 120, p: float = 0.2) -> ClickThrough:
    """People whose own rates vary around p; each has another number of impressions."""
    group = ClickThrough()
    for person in range(people):
        own = rng.beta(p * spread, (1 - p) * spread)
        for _ in range(int(rng.integers(3, 40))):
            group.shown(str(person))
            if rng.random() < own:
                group.clicked(str(person))
    return group


@pytest.mark.parametrize("spread", [4.0, 1_000.0])
def test_intervals_cover_the_true_rate_whether_people_differ_or_not(spread: float) -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        low, high = groups_drawn(rng, spread).rate().interval()
        covered += low <= 0.2 <= high
    assert 0.91 <= covered / 300 <= 0.99


def test_taking_impressions_of_one_person_as_independent_would_not_cover() -> None:
    rng = np.random.default_rng(6)
    covered = 0
    for _ in range(300):
        low, high = replace(groups_drawn(rng, 4.0).rate(), effective=None).interval()
        covered += low <= 0.2 <= high
    assert covered / 300 < 0.85


def test_a_group_without_impressions_has_no_rate() -> None:
    assert ClickThrough().rate() == Rate(0, 0, 0.0)
    assert Rate(0, 0, 0.0).interval() == (0.0, 1.0)


BALANCED = Ledger(
    ends={0: 60, 1: 40},
    accounts={0: Account(60, 50, 5, 1, 4), 1: Account(40, 40, 0, 0, 0)},
    simulated=Sent(98, 5, 1, 4),
    acked=98,
)


def test_a_ledger_that_balances_says_so_with_all_its_terms() -> None:
    assert BALANCED.problems() == []
    assert BALANCED.line() == "100 sent = 90 applied + 5 duplicates + 4 dead-lettered + 1 withdrawn"
    assert BALANCED.others == 2


@pytest.mark.parametrize(
    ("ledger", "said"),
    [
        (replace(BALANCED, ends={0: 61, 1: 40}), "101 sent, but 100 accounted for"),
        (
            replace(BALANCED, accounts={0: BALANCED.accounts[0]}),
            "partition 1 ends at 40, its last checkpoint",
        ),
        (replace(BALANCED, acked=97), "handed over 98; the broker confirmed 97"),
        (replace(BALANCED, simulated=Sent(98, 6, 1, 4)), "5 duplicates, but the simulated people made 6"),
        (replace(BALANCED, simulated=Sent(98, 5, 1, 1)), "4 dead-lettered, but the simulated people made 1"),
        (replace(BALANCED, simulated=Sent(98, 5, 2, 4)), "1 withdrawn, but the simulated people made 2"),
        (replace(BALANCED, accounts={}), "100 sent, but 0 accounted for"),
    ],
)
def test_a_ledger_that_does_not_balance_names_what_is_wrong(ledger: Ledger, said: str) -> None:
    assert any(said in problem for problem in ledger.problems())


def test_applied_and_lost_must_not_make_up_for_one_another() -> None:
    """One duplicate applied twice and one record lost keep the sum: the simulated people know better."""
    twisted = replace(BALANCED, accounts={**BALANCED.accounts, 0: Account(60, 51, 4, 1, 4)})
    assert twisted.problems() == ["4 duplicates, but the simulated people made 5"]


def worker(applied: int, position: int, latencies_s: list[float]) -> str:
    metrics = Metrics()
    metrics.add(metrics.activities, applied, "applied")
    metrics.add(metrics.feeds, 2 * applied, "for_you", "written")
    metrics.add(metrics.feeds, applied, "following", "written")
    metrics.add(metrics.feeds, 99, "for_you", "refused_older")
    metrics.set(metrics.position, position, "t", 3)
    metrics.set(metrics.position, 7, "another", 3)
    metrics.due_users.set(5)
    for one in latencies_s:
        metrics.event_to_redis.observe(one)
    return metrics.exposition().decode()


def test_what_the_worker_exports_is_read_by_name() -> None:
    reading = parse(worker(10, 42, [0.03] * 4), "t")
    assert reading.counters == {"applied": 10, "feeds": 30}
    assert reading.positions == {3: 42}
    assert reading.gauges["due"] == 5
    assert reading.latency[math.inf] == 4


def test_numbers_go_on_over_a_restart_and_latencies_begin_with_the_visit() -> None:
    numbers = WorkerNumbers(window_s=10.0)
    numbers.take(parse(worker(100, 100, [5.0] * 50), "t"), 0.0)
    numbers.begin()
    numbers.take(parse(worker(100, 100, [5.0] * 50), "t"), 1.0)
    numbers.take(parse(worker(300, 300, [5.0] * 50 + [0.03] * 10), "t"), 2.0)
    assert numbers.per_s("applied") == 200.0
    assert 0.02 < numbers.quantile(0.99) < 0.035
    numbers.restarted()
    assert numbers.last.positions == {}
    numbers.take(parse(worker(50, 350, [0.03] * 10), "t"), 3.0)
    assert numbers.counters["applied"] == 350
    assert numbers.latency[math.inf] == 20
    assert numbers.recent_quantile(0.5) < 0.035
    assert numbers.per_s("applied") == 125.0
