"""The reasons of a feed for a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams.feed_heads import StoredFeed
from topologies.why import Candidate, Why

ADDS_SHOWN = 3


def document(feed: StoredFeed, found: Why, origin: str, item: str | None) -> dict[str, Any]:
    """The whole answer; with an item, only that one."""
    chosen = found.candidates if item is None else tuple(one for one in found.candidates if one.id == item)
    return {
        "user": feed.user,
        "version": feed.version,
        "as_of_ms": feed.as_of_ms,
        "policy": feed.policy,
        "model": found.model,
        "rows": origin,
        "ranked_again_is_the_stored_feed": found.same,
        "candidates": len(found.candidates),
        "dropped": found.dropped,
        "failed_sources": dict(found.failed),
        "items": [asdict(one) for one in chosen],
    }


def show(feed: StoredFeed, found: Why, origin: str, most: int, console: Console) -> None:
    """The first entries, and what was dropped."""
    _head(feed, found, origin, console)
    table = Table(box=None, pad_edge=False)
    for column in ("#", "item", "score", "source", "rules", "what adds most"):
        table.add_column(column, overflow="fold")
    for one in [one for one in found.candidates if one.place is not None][:most]:
        rules = ", ".join(one.lowered_by) + (f" (from {one.score:.6f})" if one.lowered_by else "")
        source = f"drawn, propensity {one.propensity:.5f}" if one.explored else ", ".join(one.sources)
        cells = (str(one.place), one.id, f"{one.ruled:.6f}", source, rules, _adds(one))
        table.add_row(*map(escape, cells))
    console.print(table)
    total = len(found.candidates)
    told = ", ".join(f"{count} by {rule}" for rule, count in sorted(found.dropped.items())) or "none"
    console.print(f"{total} candidates; dropped: {told}", highlight=False)
    for source, error in found.failed.items():
        console.print(escape(f"source {source} failed: {error}"), highlight=False)


def show_item(feed: StoredFeed, found: Why, origin: str, item: str, console: Console) -> None:
    """One candidate with all its contributions."""
    _head(feed, found, origin, console)
    one = found.of(item)
    if one is None:
        console.print(escape(f"{item} was no candidate: no source proposed it (or it is not live)"))
        return
    where = f"place {one.place}" if one.place else "not in the feed"
    if one.dropped_by:
        where += f": dropped by the rule {one.dropped_by}"
    elif not one.place:
        where += ": others stand higher"
    if one.explored:
        where += f"; drawn by chance, propensity {one.propensity:.5f}"
    console.print(escape(f"{item}: {where}; from {', '.join(one.sources)}"), highlight=False)
    lowered = f", {one.ruled:.6f} after {', '.join(one.lowered_by)}" if one.lowered_by else ""
    console.print(f"score {one.score:.6f}{lowered}, by {one.scored_by}", highlight=False)
    if one.why:
        console.print(escape(" · ".join(one.why)), highlight=False)
    table = Table(box=None, pad_edge=False, caption=f"each head: {one.unit}", caption_justify="left")
    for column in ("feature", "value", *one.adds):
        table.add_column(column, justify="left" if column == "feature" else "right")
    for name in _by_size(one.adds):
        shown = [f"{part[name]:+.3f}" if name in part else "" for part in one.adds.values()]
        table.add_row(name, f"{one.features[name]:.3f}", *shown)
    console.print(table)


def _head(feed: StoredFeed, found: Why, origin: str, console: Console) -> None:
    same = "is" if found.same else "is NOT"
    console.print(
        escape(f"{feed.user}, version {feed.version}, policy {feed.policy}, model {found.model}"),
        highlight=False,
    )
    console.print(f"{origin}; ranked again it {same} the stored feed", highlight=False)


def _adds(one: Candidate) -> str:
    names = _by_size(one.adds)[:ADDS_SHOWN]
    return ", ".join(
        f"{name} {sum(part.get(name, 0.0) for part in one.adds.values()):+.2f}" for name in names
    )


def _by_size(adds: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Features by the largest size of what they add to a head."""
    sizes: dict[str, float] = {}
    for part in adds.values():
        for name, value in part.items():
            sizes[name] = max(sizes.get(name, 0.0), abs(value))
    return sorted(sizes, key=lambda name: (-sizes[name], name))
