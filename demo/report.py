"""The last words of a demo: the ledger and what was measured."""

from __future__ import annotations

from collections.abc import Iterator

from demo.command import feedrank_here
from demo.groups import GROUPS
from demo.run import Outcome
from demo.site import RECORDING, Site
from demo.snapshot import clock, gained, milliseconds, with_interval


def lines_of(outcome: Outcome, site: Site) -> Iterator[str]:
    """What to print, line by line."""
    ledger, numbers, last = outcome.ledger, outcome.numbers, outcome.last
    yield f"ledger: {ledger.line()}: " + ("it does NOT balance" if ledger.problems() else "it balances")
    if ledger.others:
        yield f"        {ledger.others:,} of them came through the page or `feedrank act`"
    yield (
        f"feeds:  {numbers.counters.get('feeds', 0):,.0f} written; event to Redis "
        f"p50 {milliseconds(numbers.quantile(0.5))}, p99 {milliseconds(numbers.quantile(0.99))}"
    )
    for second, said in last.events:
        if said.startswith("worker"):
            yield f"at {clock(second)}: {said}"
    for group in GROUPS:
        if group in last.groups:
            yield f"clicks: {group:<14} {with_interval(last.groups[group])}"
    yield f"        ranked - chronological {gained(last.gain())}"
    recording = site.root / RECORDING
    yield f"what was sent is in {recording} (`{feedrank_here()} load jsonl` sends it again)"
    if outcome.settled is not None:
        yield f"digest: {outcome.settled.digest} of rows and settled feeds; this makes the same again:"
        yield f"        {outcome.settled.command(recording)} && {feedrank_here()} digest again"
