"""When readers may be sent to a namespace, and what the refusal says."""

from __future__ import annotations

import pytest

from feedrank.shadow import Standing, demand
from streams.errors import ExitCode, OperatorError

LIVE = Standing("live", (), 0, 1_000)


@pytest.mark.parametrize(
    ("shadow", "says"),
    [
        (Standing("next", (0, 1), 0, 0), "there is no namespace next"),
        (Standing("next", (1,), 0, 1_000), r"partitions \(1,\) never read"),
        (Standing("next", (), 101, 1_000), "101 records behind.*feedrank catch-up next"),
        (Standing("next", (), 100, 989), "next has 989 feeds, live has 1,000.*1.0% fewer.*settle"),
    ],
)
def test_a_namespace_that_would_lose_something_is_refused(shadow: Standing, says: str) -> None:
    with pytest.raises(OperatorError, match=says) as refused:
        demand(shadow, LIVE, lag_max=100, smaller_max=0.01)
    assert refused.value.exit_code == ExitCode.NOT_READY


def test_within_the_tolerances_it_is_ready() -> None:
    demand(Standing("next", (), 100, 990), LIVE, lag_max=100, smaller_max=0.01)
